from pathlib import Path

import pytest
import torch
from sparsecode_transformer import HookedTransformer, RandomModel
from sparsecode_transformer.locate import locate_model
from transformers import AutoTokenizer

from sparsecode_pl.data import ActivationStore, Store, TensorActivations, write_store


def hooked(model, text, **kwargs) -> HookedTransformer:
    return HookedTransformer(model, text, **{"num_activations": None, "device": "cpu", "batch_tokens": 128} | kwargs)


def over_text(passes) -> int:
    return sum(rows for rows, width in passes if (rows, width) != (1, 2))


def test_it_has_the_same_tokens_and_layer_but_other_numbers(small, text):
    data = hooked(small, text, shard_rows=500)
    control = RandomModel()
    for part in data.parts():
        random = control.of(part)
        assert (random.place.layer, random.d_model) == (part.place.layer, part.d_model)
        assert random.place.model == f"{part.place.model} with random weights 0"
        for name, column in part.metadata.items():
            assert torch.equal(random.metadata[name], column)  # in the same order too
        assert random.rows.shape == part.rows.shape
        assert not torch.isclose(random.rows, part.rows).all(1).any()


def test_its_weights_are_those_of_the_seed(small, text):
    part = hooked(small, text).parts()[2]
    first, again, other = (RandomModel(seed=seed).of(part).rows for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).all(1).any()
    assert torch.equal(first, hooked(small, text, layers=2, random_weights=4).rows)


def test_one_pass_serves_all_layers(small, text, passes):
    parts = hooked(small, text).parts()
    for part in parts:
        part.setup()
    passes.clear()
    control = RandomModel()
    for part in parts:
        control.of(part).setup()
    assert over_text(passes) == 80


def test_it_is_batched_and_split_as_the_data_is(small, text):
    part = hooked(small, text, layers=1, batch_size=64, batches_per_round=7, val_split=0.2, seed=3).parts()[0]
    random = RandomModel(batch_size=5).of(part)
    assert (random.batch_size, random.batches_per_round, random.val_split, random.seed) == (64, 7, 0.2, 3)
    assert torch.equal(random.train_index, part.train_index)


def test_it_streams_where_the_data_does(small, text):
    settings = {"num_activations": 300, "batch_size": 32, "buffer_size": 64, "refill_share": 0.7}
    part = hooked(small, text, layers=1, stream=True, **settings)
    random = RandomModel().of(part)
    assert (random.stream, random.buffer_size, random.refill_share) == (True, 64, 0.7)
    random.setup()
    assert random.train_batch(0, 0).shape == (32, 8)
    assert not RandomModel().of(hooked(small, text, layers=1, **settings)).stream


def test_it_has_as_many_rows_as_the_data(small, text):
    part = hooked(small, text, num_activations=321).parts()[1]
    random = RandomModel().of(part)
    assert random.rows.shape == (321, 8)
    assert torch.equal(random.metadata["token_id"], part.metadata["token_id"])


def test_tokens_that_were_left_out_for_their_norm_are_no_reason_to_leave_out_others(small, text):
    part = hooked(small, text, layers=1, max_norm_ratio=2).parts()[0]
    random = RandomModel().of(part)
    assert len(random.rows) == len(part.rows) < len(hooked(small, text, layers=1).rows)


@pytest.mark.parametrize("num", [None, 200])
def test_it_is_a_control_of_a_store_that_was_filled(small, text, tmp_path, num):
    data = hooked(small, text, layers=[1, "layers.0.mlp"], store=str(tmp_path / "store"))
    data.prepare_data()
    control = RandomModel()
    for part in ActivationStore(str(tmp_path / "store"), num_activations=num).parts():
        random = control.of(part)
        assert random.label == f"llama with random weights 0 layer {part.layer}"
        whole = hooked(small, text, layers=[1, "layers.0.mlp"], random_weights=0).parts()
        expected = {one.place.layer: one.rows for one in whole}[part.layer]
        assert torch.equal(random.rows, expected if num is None else expected[part.subset])  # the same tokens


def test_it_is_refused_where_the_model_is_no_longer_what_the_store_was_made_of(small, save_small, text, tmp_path):
    folder = save_small(tmp_path / "model", lambda model: None)
    hooked(folder, text, layers="layers.*.mlp", store=str(tmp_path / "store")).prepare_data()
    part = ActivationStore(str(tmp_path / "store")).parts()[0]
    part._store.source["init_args"]["layers"] = "0"
    with pytest.raises(ValueError, match=r"layer is 'layers.0.mlp', but .* has 0: it is no longer the model"):
        RandomModel().of(part)


def test_its_activations_may_be_kept_in_a_store(small, text, tmp_path, passes):
    part = hooked(small, text, layers=[0, 3]).parts()[1]
    random = RandomModel(store=str(tmp_path / "random")).of(part)
    random.prepare_data()
    store = Store(tmp_path / "random" / part.place.model)
    assert store.source["init_args"]["random_weights"] == 0
    assert list(store.layers) == ["0", "3"]
    passes.clear()
    again = RandomModel(store=str(tmp_path / "random")).of(part)
    assert torch.equal(again.rows[:], store.rows("3")[:])
    assert passes == []


@pytest.mark.parametrize("kind", ["tensor", "foreign store"])
def test_other_data_is_refused(tmp_path, kind):
    rows = torch.randn(20, 4)
    if kind == "tensor":
        data = TensorActivations(rows)
    else:
        data = ActivationStore(str(write_store(tmp_path / "store", [{"0": rows, "1": rows}])), layer="1")
    with pytest.raises(ValueError, match="RandomModel is a control of HookedTransformer, or of a store that it filled"):
        RandomModel().of(data)


def test_it_has_no_data_of_its_own():
    with pytest.raises(ValueError, match="RandomModel has no data of its own: list it under controls"):
        _ = RandomModel().rows


@pytest.mark.parametrize("name", ["stories", "minilm"])
def test_real_models_become_random(request, tmp_path, name):
    model = request.getfixturevalue(name)
    path = tmp_path / "text.txt"
    path.write_text("Once upon a time there was a little car.\nA cat sat on the mat, and it was happy.\n")
    part = hooked(model, str(path)).parts()[3]
    random = RandomModel().of(part)
    assert torch.equal(random.metadata["token_id"], part.metadata["token_id"])
    assert random.rows.shape == part.rows.shape
    assert (random.rows - part.rows).norm() > 0.3 * part.rows.norm()
    tokenizer = AutoTokenizer.from_pretrained(locate_model(model))
    ids = tokenizer(Path(path).read_text().splitlines(), add_special_tokens=False)["input_ids"]
    assert len(random.rows) == sum(map(len, ids))

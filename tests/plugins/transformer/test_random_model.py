import json
from pathlib import Path

import pytest
import torch
from sparsecode_transformer import RandomModel, TransformerActivations
from sparsecode_transformer.locate import locate_model
from transformers import AutoTokenizer

from sparsecode_pl.data import ActivationStore, Store, TensorActivations, write_store


def activations(model, text, **kwargs) -> TransformerActivations:
    return TransformerActivations(
        model, text, **{"num_activations": None, "device": "cpu", "batch_tokens": 128} | kwargs
    )


def over_text(passes) -> int:
    return sum(rows for rows, width in passes if (rows, width) != (1, 2))


def test_it_has_the_same_tokens_and_layer_but_other_numbers(small, text):
    data = activations(small, text, shard_rows=500)
    control = RandomModel()
    for part in data.sources():
        random = control.of(part)
        assert (random.place.layer, random.d_model) == (part.place.layer, part.d_model)
        assert random.place.model == f"{part.place.model} with random weights 0"
        for name, column in part.columns.items():
            assert torch.equal(random.columns[name], column)  # in the same order too
        assert random.rows.shape == part.rows.shape
        assert not torch.isclose(random.rows, part.rows).all(1).any()


def test_its_weights_are_those_of_the_seed(small, text):
    part = activations(small, text).sources()[2]
    first, again, other = (RandomModel(seed=seed).of(part).rows for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).all(1).any()
    assert torch.equal(first, activations(small, text, layers=2, random_weights=4).rows)


def test_one_pass_serves_all_layers(small, text, passes):
    sources = activations(small, text).sources()
    for source in sources:
        _ = source.rows
    passes.clear()
    control = RandomModel()
    for source in sources:
        _ = control.of(source).rows
    assert over_text(passes) == 80


def test_it_is_batched_and_split_as_the_data_is(small, text):
    data = activations(small, text, layers=1, batch_size=64, batches_per_round=7, val_split=0.2, seed=3)
    random = data.over(RandomModel().of(data.source))
    assert (random.batch_size, random.batches_per_round, random.val_split, random.seed) == (64, 7, 0.2, 3)
    assert torch.equal(random.train_index, data.train_index)


def test_it_streams_where_the_data_does(small, text):
    settings = {"num_activations": 300, "batch_size": 32, "buffer_size": 64, "refill_share": 0.7, "seed": 5}
    data = activations(small, text, layers=1, stream=True, **settings)
    source = RandomModel().of(data.source)
    assert (source.stream.buffer_size, source.stream.refill_share, source.stream.seed) == (64, 0.7, 5)
    random = data.over(source)
    random.setup()
    assert random.stream
    assert random.train_batch(0, 0).shape == (32, 8)
    expected = activations(small, text, layers=1, stream=True, random_weights=0, **settings)
    assert torch.equal(random.train_batch(0, 1), expected.train_batch(0, 1))
    assert RandomModel().of(activations(small, text, layers=1, **settings).source).stream is None


def test_it_has_as_many_rows_as_the_data(small, text):
    part = activations(small, text, num_activations=321).sources()[1]
    random = RandomModel().of(part)
    assert random.rows.shape == (321, 8)
    assert torch.equal(random.columns["token_id"], part.columns["token_id"])


def test_tokens_that_were_left_out_for_their_norm_are_no_reason_to_leave_out_others(small, text):
    part = activations(small, text, layers=1, max_norm_ratio=2).sources()[0]
    random = RandomModel().of(part)
    assert len(random.rows) == len(part.rows) < len(activations(small, text, layers=1).rows)


def rename_in_manifest(store: Path) -> None:
    """Make a store look as if an earlier version had filled it."""
    path = store / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["source"]["class_path"] = "sparsecode_transformer.HookedTransformer"
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("older_name", [False, True])
@pytest.mark.parametrize("num", [None, 200])
def test_it_is_a_control_of_a_store_that_was_filled(small, text, tmp_path, num, older_name):
    data = activations(small, text, layers=[1, "layers.0.mlp"], store=str(tmp_path / "store"))
    data.prepare_data()
    control = RandomModel()
    if older_name:
        rename_in_manifest(tmp_path / "store")
    for part in ActivationStore(str(tmp_path / "store"), num_activations=num).sources():
        random = control.of(part)
        assert random.label == f"llama with random weights 0 layer {part.place.layer}"
        whole = activations(small, text, layers=[1, "layers.0.mlp"], random_weights=0).sources()
        expected = {one.place.layer: one.rows for one in whole}[part.place.layer]
        assert torch.equal(random.rows[:], expected if num is None else expected[part.index])  # the same tokens


def test_its_token_means_are_removed_where_those_of_the_data_are(small, text):
    data = activations(small, text, layers=1, remove="token_mean")
    random = data.over(RandomModel().of(data.source))
    expected = activations(small, text, layers=1, random_weights=0, remove="token_mean")
    assert torch.equal(random.rows[:], expected.rows[:])
    assert {kind: rows.tolist() for kind, rows in random.row_sets.items()} == {
        kind: rows.tolist() for kind, rows in expected.row_sets.items()
    }
    assert random.label == "llama with random weights 0 layer 1 without token means"


def test_it_is_refused_where_the_model_is_no_longer_what_the_store_was_made_of(small, save_small, text, tmp_path):
    folder = save_small(tmp_path / "model", lambda model: None)
    activations(folder, text, layers="layers.*.mlp", store=str(tmp_path / "store")).prepare_data()
    part = ActivationStore(str(tmp_path / "store")).sources()[0]
    part._store.source["init_args"]["layers"] = "0"
    with pytest.raises(ValueError, match=r"layer is 'layers.0.mlp', but .* has 0: it is no longer the model"):
        RandomModel().of(part)


def test_its_activations_may_be_kept_in_a_store(small, text, tmp_path, passes):
    part = activations(small, text, layers=[0, 3]).sources()[1]
    random = RandomModel(store=str(tmp_path / "random")).of(part)
    _ = random.rows
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
    with pytest.raises(
        ValueError, match="RandomModel is a control of TransformerActivations, or of a store that it filled"
    ):
        RandomModel().of(data.source)


@pytest.mark.parametrize(
    ("randomise", "label", "model"),
    [
        ("all", "RandomModel", "llama with random weights 2"),
        ("all_but_embeddings", "RandomModel, all but embeddings", "llama with trained embeddings and random weights 2"),
        ("shuffled", "RandomModel, shuffled", "llama with shuffled weights 2"),
    ],
)
def test_there_is_a_choice_of_what_is_random(small, text, randomise, label, model):
    control = RandomModel(seed=2, randomise=randomise)
    assert control.label == label
    parts = activations(small, text, layers=[0, 2]).sources()
    made = [control.of(part) for part in parts]
    assert made[0].place.model == model
    expected = activations(small, text, layers=[0, 2], random_weights=2, randomise=randomise).sources()
    for one, other, part in zip(made, expected, parts, strict=True):
        assert one.label == other.label
        assert torch.equal(one.rows, other.rows)
        for name, column in part.columns.items():
            assert torch.equal(one.columns[name], column)
    assert torch.equal(made[0].rows, parts[0].rows) is (randomise == "all_but_embeddings")
    assert not torch.isclose(made[1].rows, parts[1].rows).all(1).any()


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="randomise is 'some': give one of all, all_but_embeddings, shuffled"):
        RandomModel(randomise="some")


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed is -1: give an integer of at least 0"):
        RandomModel(seed=-1)


@pytest.mark.parametrize("name", ["stories", "minilm"])
def test_real_models_become_random(request, tmp_path, name):
    model = request.getfixturevalue(name)
    path = tmp_path / "text.txt"
    path.write_text("Once upon a time there was a little car.\nA cat sat on the mat, and it was happy.\n")
    part = activations(model, str(path)).sources()[3]
    random = RandomModel().of(part)
    assert torch.equal(random.columns["token_id"], part.columns["token_id"])
    assert random.rows.shape == part.rows.shape
    assert (random.rows - part.rows).norm() > 0.3 * part.rows.norm()
    tokenizer = AutoTokenizer.from_pretrained(locate_model(model))
    ids = tokenizer(Path(path).read_text().splitlines(), add_special_tokens=False)["input_ids"]
    assert len(random.rows) == sum(map(len, ids))

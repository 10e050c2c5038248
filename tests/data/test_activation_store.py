import pickle

import numpy as np
import pytest
import torch
from lightning import Trainer

from sparsecode_pl.data import ActivationStore, Place, TensorActivations, write_store


def test_one_layer_is_a_data_set_of_its_own(store, whole):
    rows, columns = whole()
    data = ActivationStore(str(store), layer="model.mlp")
    assert data.d_model == 5
    assert torch.equal(data.rows[:], rows["model.mlp"])
    assert not isinstance(data.rows, torch.Tensor)
    assert data.source.place == Place("tiny", "model.mlp")
    assert data.source.provenance == {"model": "tiny"}
    assert data.label == "tiny layer model.mlp"
    assert data.source.columns.keys() == columns.keys()
    assert all(torch.equal(data.source.columns[name], x) for name, x in columns.items())


def test_a_number_names_a_layer(store):
    assert ActivationStore(str(store), layer=0).label == "tiny layer 0"


def test_batches_equal_those_of_the_tensor_itself(store, whole):
    data, tensor = (
        ActivationStore(str(store), layer=0, batch_size=16),
        TensorActivations(whole()[0]["0"], batch_size=16),
    )
    assert torch.equal(data.train_index, tensor.train_index)
    torch.testing.assert_close(data.statistics.mean, tensor.statistics.mean)
    for index in range(7):
        assert torch.equal(data.train_batch(1, index), tensor.train_batch(1, index))


def test_several_layers_are_taken_one_by_one(store, whole):
    data = ActivationStore(str(store), num_activations=20, seed=3, batch_size=8)
    assert data.label == "ActivationStore, 2 layers"
    assert data.d_model == 3
    sources = data.sources()
    assert [source.label for source in sources] == ["tiny layer 0", "tiny layer model.mlp"]
    assert [source.d_model for source in sources] == [3, 5]
    assert [source.place for source in sources] == [Place("tiny", "0"), Place("tiny", "model.mlp")]
    index = sources[1].columns["token"]
    for source, x in zip(sources, whole()[0].values(), strict=True):
        assert torch.equal(source.columns["token"], index)
        assert torch.equal(source.rows[:], x[torch.isin(whole()[1]["token"], index)])
        assert data.over(source).batch_size == 8


def test_several_layers_are_not_one_data_set(store):
    message = r"data are 2 layers \(tiny layer 0, tiny layer model.mlp\), but one dictionary .* `sparsecode measure`"
    with pytest.raises(ValueError, match=message):
        ActivationStore(str(store)).setup()


def test_a_store_of_one_layer_needs_no_name(tmp_path):
    path = write_store(tmp_path / "mine", [np.random.default_rng(0).normal(size=(30, 4))])
    data = ActivationStore(str(path))
    assert data.label == "mine"
    assert data.source.place is None
    assert data.source.columns == {}
    data.setup()
    assert data.rows.shape == (30, 4)


def test_a_model_without_a_name_is_called_by_its_folder(tmp_path):
    path = write_store(tmp_path / "mine", [{"7": np.ones((3, 2))}])
    assert ActivationStore(str(path)).source.place == Place("mine", "7")
    assert ActivationStore(str(path)).label == "mine layer 7"


def test_a_subset_is_drawn_by_the_seed(store, whole):
    data, same, other = (ActivationStore(str(store), "0", num_activations=25, seed=seed) for seed in (0, 0, 1))
    index = [whole()[1]["token"].tolist().index(token) for token in data.source.columns["token"].tolist()]
    assert index == sorted(set(index))
    assert len(index) == len(data.rows) == data.rows.shape[0] == 25
    assert torch.equal(data.rows[:], whole()[0]["0"][index])
    assert torch.equal(data.rows[torch.tensor([24, 3])], whole()[0]["0"][[index[24], index[3]]])
    assert torch.equal(data.source.columns["token"], same.source.columns["token"])
    assert not torch.equal(data.source.columns["token"], other.source.columns["token"])
    everything = ActivationStore(str(store), "0", num_activations=60)
    assert torch.equal(everything.rows[:], whole()[0]["0"])


def test_it_goes_to_worker_processes_small(store):
    data = ActivationStore(str(store), "0", num_activations=50, batch_size=8, batches_per_round=5)
    data.setup()
    alone = list(data.train_dataloader())
    data.num_workers = 1
    assert all(map(torch.equal, alone, data.train_dataloader()))
    assert torch.equal(pickle.loads(pickle.dumps(data)).rows[:], data.rows[:])  # noqa: S301


def test_a_trainer_takes_it(store):
    data = ActivationStore(str(store), "0")
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.setup()
    assert len(torch.cat([x for _, x in data.val_dataloader()[0]])) == 54


def test_errors_come_before_any_work(store, tmp_path, fill):
    with pytest.raises(ValueError, match=r"layer is '1', .* give one of 0, model.mlp"):
        ActivationStore(str(store), layer=1)
    with pytest.raises(ValueError, match=r"num_activations is 61, but the store at .* has 60: give at most"):
        ActivationStore(str(store), num_activations=61)
    with pytest.raises(ValueError, match="num_activations is 1: give at least 2"):
        ActivationStore(str(store), num_activations=1)
    with pytest.raises(ValueError, match="batch_size is 0"):
        ActivationStore(str(store), batch_size=0)
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        ActivationStore(str(tmp_path / "nowhere"))
    fill(tmp_path / "unfinished", finish=False)
    with pytest.raises(ValueError, match="is unfinished, with 60 rows so far"):
        ActivationStore(str(tmp_path / "unfinished"))
    assert len(ActivationStore(str(tmp_path / "unfinished"), 0, partial=True).rows) == 60
    path = store / "layers/0/00000.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="has changed"):
        ActivationStore(str(store), verify=True)

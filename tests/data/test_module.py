import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsecode_pl.data import ActivationDataModule, Control, Source, SourceActivations, TensorActivations, TensorSource


def numbers(rows: torch.Tensor) -> list[int]:
    return rows[:, 0].long().tolist()


@given(n=st.integers(2, 200), val_split=st.floats(0, 0.999))
def test_split_is_a_partition_of_the_wanted_sizes(numbered, n, val_split):
    data = numbered(n, val_split=val_split)
    held_out = min(round(n * val_split), n - 1)
    if val_split > 0 and held_out == 0:
        with pytest.raises(ValueError, match=r"val_split is .* none of"):
            _ = data.train_index
        return
    assert len(data.heldout_index) == held_out
    assert sorted([*data.train_index.tolist(), *data.heldout_index.tolist()]) == list(range(n))
    for index in (data.train_index, data.heldout_index):
        assert torch.equal(index, index.sort().values)


def test_split_is_random_and_depends_on_the_seed_alone(numbered):
    split = numbered(100, seed=3).heldout_index
    assert torch.equal(split, numbered(100, seed=3, batch_size=7).heldout_index)
    assert not torch.equal(split, numbered(100, seed=4).heldout_index)
    assert split.tolist() not in (list(range(10)), list(range(90, 100)))


def test_val_split_zero_holds_nothing_out(numbered):
    data = numbered(10, val_split=0)
    assert data.train_index.tolist() == list(range(10))
    assert len(data.heldout_index) == 0
    assert len(data.val_dataloader()) == 1


@given(n=st.integers(2, 60), batch_size=st.integers(1, 80))
def test_every_pass_takes_each_training_row_once(numbered, n, batch_size):
    data = numbered(n, val_split=0, batch_size=batch_size)
    size = min(n, batch_size)
    batches = [data.train_batch(0, index) for index in range(-(-3 * n // size))]
    assert {len(batch) for batch in batches} == {size}
    drawn = numbers(torch.cat(batches))
    for turn in range(3):
        assert sorted(drawn[turn * n : (turn + 1) * n]) == list(range(n))


def test_held_out_rows_are_never_trained_on(numbered):
    data = numbered(50, val_split=0.4, batch_size=8, batches_per_round=20)
    trained = set(numbers(torch.cat(list(data.train_dataloader()))))
    assert trained == set(data.train_index.tolist())


def test_passes_and_epochs_are_shuffled_anew(numbered):
    data = numbered(50, val_split=0, batch_size=50)
    orders = [tuple(numbers(data.train_batch(epoch, index))) for epoch in range(3) for index in range(3)]
    assert len(set(orders)) == 9


def test_batches_depend_on_seed_epoch_and_index_alone(numbered):
    one, two, other = (numbered(100, batch_size=16, seed=seed) for seed in (5, 5, 6))
    places = [(0, 0), (0, 9), (2, 3)]
    forward = [one.train_batch(*place) for place in places]
    backward = [two.train_batch(*place) for place in reversed(places)][::-1]
    assert all(map(torch.equal, forward, backward))
    assert not any(torch.equal(other.train_batch(*place), batch) for place, batch in zip(places, forward, strict=True))


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("batch_size", [12, 13, 1000])
def test_ranks_share_the_batch_of_one_process(numbered, as_rank, world_size, batch_size):
    whole = (min(batch_size, 84)) // world_size * world_size
    alone = numbered(94, batch_size=whole, batches_per_round=15)
    ranks = [
        list(as_rank(numbered(94, batch_size=batch_size, batches_per_round=15), rank, world_size).train_dataloader())
        for rank in range(world_size)
    ]
    assert {len(batches) for batches in ranks} == {15}
    for together, *shares in zip(alone.train_dataloader(), *ranks, strict=True):
        assert {len(share) for share in shares} == {whole // world_size}
        assert sorted(numbers(torch.cat(shares))) == sorted(numbers(together))


def test_fewer_rows_than_processes_is_an_error(numbered, as_rank):
    with pytest.raises(ValueError, match=r"batch_size is 2, .* for 3 processes: give at least one row"):
        as_rank(numbered(100, batch_size=2), 0, 3).train_dataloader()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_scoring_and_predicting_take_every_row_once_over_the_ranks(numbered, as_rank, world_size):
    data = numbered(101, val_split=0.3, batch_size=5)
    train, heldout, predicted = [], [], []
    lengths = set()
    for rank in range(world_size):
        as_rank(data, rank, world_size)
        loaders = [*data.val_dataloader(), data.predict_dataloader()]
        lengths.add(tuple(map(len, loaders)))
        train += numbers(torch.cat([x for _, x in loaders[0]]))
        heldout += numbers(torch.cat([x for _, x in loaders[1]]))
        for index, rows in loaders[2]:
            assert torch.equal(rows, data.rows[index])
            predicted += index.tolist()
    assert len(lengths) == 1
    assert sorted(train) == data.train_index.tolist()
    assert sorted(heldout) == data.heldout_index.tolist()
    assert sorted(predicted) == list(range(101))


def test_workers_yield_the_same_batches(numbered):
    alone, helped = (
        list(numbered(30, batch_size=8, batches_per_round=7, num_workers=workers).train_dataloader())
        for workers in (0, 2)
    )
    assert len(alone) == len(helped) == 7
    assert all(map(torch.equal, alone, helped))


def test_statistics_equal_numpy():
    x = np.random.default_rng(0).normal(loc=1000.0, scale=[1.0, 10.0, 0.1], size=(20_000, 3)).astype(np.float32)
    data = TensorActivations(torch.from_numpy(x))
    rows = x[data.train_index.numpy()].astype(np.float64)
    np.testing.assert_allclose(data.statistics.mean.numpy(), rows.mean(0), rtol=1e-12)
    norms = np.linalg.norm(rows - rows.mean(0), axis=1)
    assert data.statistics.mean_norm == pytest.approx(norms.mean(), rel=1e-12)


def test_equal_rows_are_refused_at_setup():
    data = TensorActivations(torch.full((20, 3), 0.5), name="flat")
    with pytest.raises(ValueError, match="all 20 rows are equal"):
        data.setup()


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("batch_size", 0),
        ("batches_per_round", 0),
        ("num_workers", -1),
        ("seed", -1),
        ("val_split", 1.0),
        ("val_split", -0.1),
        ("val_split", float("nan")),
    ],
)
def test_bad_arguments_are_named(numbered, argument, value):
    with pytest.raises(ValueError, match=f"{argument} is {value}: give"):
        numbered(10, **{argument: value})


def test_sample_takes_training_rows_without_replacement_and_then_again(numbered):
    data = numbered(20, val_split=0.25)
    training = set(data.train_index.tolist())
    once = data.sample(15, torch.Generator().manual_seed(0))[:, 0].int().tolist()
    assert set(once) == training
    twice = data.sample(40, torch.Generator().manual_seed(0))[:, 0].int().tolist()
    assert twice[:15] == once
    assert {twice.count(row) for row in training} == {2, 3}


def test_simple_data_has_one_source_that_knows_nothing_more(numbered):
    data = numbered(10)
    (source,) = data.sources()
    assert source is data.source is data.source
    assert (source.place, source.provenance, source.columns, source.stream) == (None, {}, {}, None)
    assert source.ground_truth is None
    assert not data.stream


class Simple(ActivationDataModule):
    """Data as the README shows it."""

    loaded = 0

    def load(self):
        self.loaded += 1
        return torch.arange(20.0, dtype=torch.float64).reshape(10, 2)


class Named(Simple):
    """Data that knows its name and width."""

    @property
    def label(self):
        return "mine"

    @property
    def d_model(self):
        return 2


def test_data_that_implements_load_is_loaded_once():
    data = Simple(batch_size=4)
    assert (data.label, data.source.label) == ("Simple", "Simple")
    data.setup()
    assert data.rows.dtype == torch.float32
    assert (data.d_model, data.source.d_model, data.loaded) == (2, 2, 1)
    assert data.over(data.source).rows is data.rows
    assert torch.equal(pickle.loads(pickle.dumps(data)).rows, data.rows)  # noqa: S301


def test_data_may_know_its_name_and_width_before_it_is_loaded():
    data = Named()
    assert (data.label, data.source.label, data.d_model, data.source.d_model, data.loaded) == ("mine", "mine", 2, 2, 0)


class Layered(ActivationDataModule):
    """Data of several layers."""

    def __init__(self, *widths, **kwargs):
        super().__init__(**kwargs)
        self._sources = [TensorSource(torch.eye(10)[:, :width], label=f"layer {width}") for width in widths]

    def sources(self):
        return self._sources


def test_several_layers_are_not_one_data_set():
    data = Layered(3, 4)
    assert (data.d_model, data.label) == (3, "Layered, 2 layers")
    for use in (lambda: data.source, lambda: data.rows, data.setup, lambda: data.of(TensorSource(torch.eye(3)))):
        with pytest.raises(ValueError, match=r"data are 2 layers \(layer 3, layer 4\), but .* `sparsecode measure`"):
            use()


def test_one_layer_is_a_data_set_with_its_name():
    data = Layered(3)
    data.setup()
    assert (data.label, data.rows.shape) == ("layer 3", (10, 3))


def test_another_source_is_loaded_with_the_same_settings(numbered):
    data = numbered(40, batch_size=7, batches_per_round=3, val_split=0.25, seed=5)
    other = data.over(TensorSource(-data.rows, label="negated"))
    assert (other.label, other.batches_per_round, other.num_workers) == ("negated", 3, 0)
    assert torch.equal(other.train_index, data.train_index)
    assert torch.equal(other.train_batch(2, 1), -data.train_batch(2, 1))
    assert torch.equal(other.rows, -data.rows)


def test_data_is_a_control_of_data_of_its_width(numbered):
    data, source = numbered(10), TensorSource(torch.randn(5, 2), label="measured")
    assert isinstance(data, Control)
    assert data.of(source) is data.source
    assert not data.module
    with pytest.raises(ValueError, match=r"activations has width 2, but measured, .*, has width 3: give a control of"):
        data.of(TensorSource(torch.randn(5, 3), label="measured"))


def test_what_implements_neither_load_nor_sources_is_refused():
    class Nothing(ActivationDataModule):
        pass

    with pytest.raises(TypeError, match="Nothing has no rows: implement `load`"):
        Nothing()
    with pytest.raises(TypeError, match="abstract class ActivationDataModule"):
        ActivationDataModule()


def test_a_method_that_would_not_be_used_is_refused():
    with pytest.raises(
        TypeError, match=r"Mine defines `load`, .* because TensorActivations.sources .*: override `sources`"
    ):

        class Mine(TensorActivations):
            def load(self):
                return torch.eye(3)


def test_after_a_fit_nothing_is_held_but_what_was_loaded(numbered, as_rank):
    data = as_rank(numbered(20), 1, 2)
    data.train_batch(0, 0)
    rows = data.rows
    data.release()
    assert data.trainer is None
    assert data._permutation is None
    assert data.rows is rows


class Counting(Source):
    """Rows of zeros, and a stream that says what it was asked for."""

    def __init__(self):
        self.asked = []

    def load(self):
        return torch.arange(12.0).reshape(6, 2)

    @property
    def stream(self):
        return self

    def batch(self, *place):
        self.asked.append(place)
        return torch.zeros(place[2] // place[4], 2)

    def sample(self, num, random):
        return torch.ones(num, 2)

    def check(self, *needed):
        self.asked.append(needed)


def test_a_stream_is_asked_for_each_share(as_rank):
    source = Counting()
    data = as_rank(SourceActivations(source, batch_size=9, batches_per_round=2), 1, 2)
    assert data.stream
    assert source.asked == [(9, 2, 2)]
    source.asked.clear()
    assert [batch.shape for batch in data.train_dataloader()] == [(4, 2), (4, 2)]
    data.train_batch(3, 1)
    assert source.asked == [(0, 0, 8, 1, 2), (0, 1, 8, 1, 2), (3, 1, 8, 0, 1)]
    assert torch.equal(data.sample(3, torch.Generator()), torch.ones(3, 2))
    assert len(torch.cat([x for _, x in data.val_dataloader()[0]])) < 6  # the rows are still those that are scored

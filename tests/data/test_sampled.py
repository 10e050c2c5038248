from collections.abc import Callable

import pytest
import torch

from sparsecode_pl.data import Control, ControlActivations


class Uniform(ControlActivations):
    def draw(self, num: int, random: torch.Generator) -> torch.Tensor:
        return torch.rand(num, self.d_model, generator=random)


def test_the_scored_rows_are_the_same_with_and_without_stream():
    fixed, stream = Uniform(d_model=3, num_samples=20), Uniform(d_model=3, num_samples=20, stream=True)
    assert fixed.rows.shape == (20, 3)
    assert torch.equal(fixed.rows, stream.rows)
    assert torch.equal(fixed.heldout_index, stream.heldout_index)
    assert not torch.equal(fixed.rows, Uniform(d_model=3, num_samples=20, seed=1).rows)


def test_without_stream_batches_are_training_rows():
    data = Uniform(d_model=3, num_samples=20, batch_size=6)
    training = set(data.rows[data.train_index, 0].tolist())
    assert set(data.train_batch(0, 1)[:, 0].tolist()) < training


def test_with_stream_batches_are_fresh_and_reproducible():
    first, second = (Uniform(d_model=3, num_samples=20, batch_size=64, stream=True) for _ in range(2))
    values = [first.train_batch(epoch, index) for epoch in range(2) for index in range(3)]
    assert {batch.shape for batch in values} == {(64, 3)}  # more than there are scored rows
    everything = torch.cat([*values, first.rows]).flatten()
    assert len(everything.unique()) > 0.999 * len(everything)  # float32 has few equal draws
    again = [second.train_batch(epoch, index) for epoch in range(2) for index in range(3)]
    assert all(map(torch.equal, values, again))


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_the_streamed_batch(as_rank: Callable[..., Uniform], workers):
    def batches(rank: int, world_size: int) -> list[torch.Tensor]:
        data = Uniform(d_model=3, num_samples=20, batch_size=12, batches_per_round=4, stream=True, num_workers=workers)
        return list(as_rank(data, rank, world_size).train_dataloader())

    for whole, one, two in zip(batches(0, 1), batches(0, 2), batches(1, 2), strict=True):
        assert torch.equal(torch.stack([one, two], dim=1).flatten(0, 1), whole)


def test_a_control_is_learnt_like_its_source(numbered):
    source = numbered(30, batch_size=7, batches_per_round=11, val_split=0.3, seed=5)
    for control in (Uniform(source), Uniform()):
        control.attach(source)
        assert control.source is source
        assert control.rows.shape == (30, 2)
        assert (control.batch_size, control.batches_per_round, control.val_split) == (7, 11, 0.3)
        assert control.seed == 0
    assert Uniform(source, num_samples=50).rows.shape == (50, 2)
    assert Uniform().d_model == 256


def test_bad_arguments_are_named(numbered):
    with pytest.raises(ValueError, match="num_samples is 1: give at least 2"):
        Uniform(num_samples=1)
    with pytest.raises(ValueError, match="d_model is 0: give at least 1"):
        Uniform(d_model=0)
    with pytest.raises(ValueError, match="d_model is 3, but activations has width 2: leave d_model out"):
        Uniform(numbered(10), d_model=3)


class Constant(Control):
    """A control of nothing but a name."""

    def of(self, source):
        return source


def test_a_control_is_one_of_given_data_and_stays_as_it_was(numbered):
    control, first, second = Uniform(seed=3), numbered(30), numbered(40)
    _ = control.rows
    before = dict(vars(control))
    for source in (first, second):
        made = control.of(source)
        assert made is not control
        assert made.source is source
        assert made.rows.shape == (len(source.rows), 2)
    assert vars(control) == before
    assert control.rows.shape == (16384, 256)


def test_a_control_that_names_a_source_stays_with_it(numbered):
    control = Uniform(numbered(30))
    assert control.of(numbered(40)) is control


def test_a_control_of_its_own_width_is_none_of_other_data(numbered):
    with pytest.raises(ValueError, match="d_model is 3, but activations has width 2: leave d_model out"):
        Uniform(d_model=3).of(numbered(10))


@pytest.mark.parametrize("use", [lambda data: data.rows, lambda data: data.d_model, lambda data: data.setup()])
def test_a_control_without_data_of_its_own_says_where_it_belongs(use):
    with pytest.raises(ValueError, match="Constant has no data of its own: list it under controls of `sparsecode mea"):
        use(Constant())


def test_a_stream_has_longer_rounds_unless_told_otherwise():
    rounds = [
        Uniform(d_model=3, **options).batches_per_round
        for options in ({}, {"stream": True}, {"stream": True, "batches_per_round": 7})
    ]
    assert rounds == [50, 240, 7]

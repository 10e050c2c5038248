import pickle
from collections.abc import Callable

import pytest
import torch

from sparsecode_pl.data import SampledActivations, SampledSource


class Uniform(SampledActivations):
    """A plugin that implements `draw`."""

    def __init__(self, d_model: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self._width = d_model

    @property
    def d_model(self) -> int:
        return self._width

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


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="num_samples is 1: give at least 2"):
        Uniform(3, num_samples=1)


def test_what_implements_neither_draw_nor_sources_is_refused():
    class Nothing(SampledActivations):
        pass

    with pytest.raises(TypeError, match="Nothing has no rows: implement `draw`"):
        Nothing()


def test_a_stream_has_longer_rounds_unless_told_otherwise():
    rounds = [
        Uniform(d_model=3, **options).batches_per_round
        for options in ({}, {"stream": True}, {"stream": True, "batches_per_round": 7})
    ]
    assert rounds == [50, 240, 7]


def test_rows_are_let_go_of_and_drawn_again_alike():
    data = Uniform(d_model=3, num_samples=20)
    rows = data.rows
    assert data.rows is rows
    assert torch.equal(pickle.loads(pickle.dumps(data)).rows, rows)  # noqa: S301
    data.release()
    assert data.rows is not rows
    assert torch.equal(data.rows, rows)


class Signs(SampledSource):
    """A source of its own."""

    d_model = 2

    def draw(self, num: int, random: torch.Generator) -> torch.Tensor:
        return torch.randint(2, (num, 2), generator=random).float()


class Data(SampledActivations):
    """A plugin that implements `sources`."""

    def sources(self):
        return [Signs(self.num_samples, False, self.seed)]


def test_draws_may_come_from_a_source():
    data = Data(num_samples=9)
    assert data.rows.shape == (9, 2)
    assert data.draw(4, torch.Generator()).shape == (4, 2)
    assert data.label == "Signs"


def test_a_stream_of_drawn_rows_has_no_columns():
    stream = Uniform(d_model=3, num_samples=20, stream=True).source.stream
    for ask in (lambda: stream.values("token_id"), lambda: stream.without("token_id", torch.tensor([1]))):
        with pytest.raises(ValueError, match=r"column is 'token_id', but .* no such column \(those there are: none\)"):
            ask()

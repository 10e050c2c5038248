import pytest
import torch

from sparsecode_pl.metrics import SampledCodes


def numbered(start: int, stop: int) -> torch.Tensor:
    """Rows that can be told apart: i + 1 at i % 3, and an entry beside it if i is even; each tenth row is empty."""
    rows = torch.zeros(stop - start, 4)
    for place, number in enumerate(range(start, stop)):
        if number % 10:
            rows[place, number % 3] = number + 1
            rows[place, number % 3 + 1] = (number + 1) / 2 * (number % 2 == 0)
    return rows


def dense(codes: torch.Tensor) -> torch.Tensor:
    return codes.to_dense()


def test_few_rows_are_all_there_once():
    metric = SampledCodes(dense, num_atoms=4, num_rows=100)
    for start, stop in ((0, 7), (7, 7), (7, 60)):
        metric.update(codes=numbered(start, stop))
    sample = metric.compute()
    assert sorted(sample.tolist()) == sorted(numbered(0, 60).tolist())
    assert sample.tolist() != numbered(0, 60).tolist()  # in random order


def test_of_many_rows_each_is_as_likely_as_any_other():
    metric = SampledCodes(dense, num_atoms=4, num_rows=300)
    for start in range(0, 3000, 250):
        metric.update(codes=numbered(start, start + 250).to_sparse_csr())
    numbers = metric.compute().amax(1)
    assert len(numbers) == 300
    numbers = numbers[numbers > 0]
    assert len(numbers.unique()) == len(numbers)
    assert abs(float(numbers.mean()) - 1500) < 5 * 3000 / 12**0.5 / len(numbers) ** 0.5
    assert sum(len(state[0]) for state in (metric.keys, metric.counts)) == 600  # no more is kept
    metric.reset()
    metric.update(codes=numbered(0, 3).to_sparse_csr())
    assert len(metric.compute()) == 3


def test_codes_of_another_dictionary_are_refused():
    with pytest.raises(ValueError, match="codes have 3 columns, but num_atoms is 4"):
        SampledCodes(dense, num_atoms=4).update(codes=torch.ones(2, 3))


def test_processes_draw_numbers_of_their_own(monkeypatch):
    """Otherwise the rows that are kept would stand at the same places in the share of each process."""
    drawn = []
    for process in range(3):
        monkeypatch.setattr("sparsecode_pl.metrics.sampled_codes.rank", lambda process=process: process)
        metric = SampledCodes(dense, num_atoms=4, num_rows=100)
        for _ in range(2):
            metric.update(codes=numbered(0, 1000))
        drawn.append(metric.keys[0])
    keys = torch.cat(drawn)
    assert len(keys.unique()) == len(keys) == 300

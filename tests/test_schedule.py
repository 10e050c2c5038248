import pytest
import torch

from sparsecode_pl.schedule import RoundSchedule, penalty_at, rate_at


def test_rate_is_constant_and_then_falls_to_zero():
    assert [rate_at(p) for p in (0, 0.25, 0.5, 0.75)] == [1, 1, 1, 0.5]
    assert rate_at(1 - 1e-9) == pytest.approx(0, abs=1e-8)


def test_penalty_falls_and_is_then_constant():
    assert [penalty_at(p, 3.0, 1.0) for p in (0, 0.25, 0.5, 0.9)] == [3, 2, 1, 1]


def test_scheduler_begins_each_round_anew():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = RoundSchedule(optimizer, lambda: 4)
    rates = []
    for _ in range(9):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == [0.5, 0.5, 0.5, 0.25] * 2 + [0.5]


def test_scheduler_can_be_saved_and_resumed():
    def make():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        return optimizer, RoundSchedule(optimizer, lambda: 4)

    optimizer, scheduler = make()
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    other_optimizer, other = make()
    other.load_state_dict(scheduler.state_dict())
    other_optimizer.load_state_dict(optimizer.state_dict())
    assert other_optimizer.param_groups[0]["lr"] == 0.25
    other_optimizer.step()
    other.step()
    assert other_optimizer.param_groups[0]["lr"] == 0.5

import pytest

from sparsecode_pl.schedule import penalty_at, rate_at


def test_rate_is_constant_and_then_falls_to_zero():
    assert [rate_at(p) for p in (0, 0.25, 0.5, 0.75)] == [1, 1, 1, 0.5]
    assert rate_at(1 - 1e-9) == pytest.approx(0, abs=1e-8)


def test_penalty_falls_and_is_then_constant():
    assert [penalty_at(p, 3.0, 1.0) for p in (0, 0.25, 0.5, 0.9)] == [3, 2, 1, 1]

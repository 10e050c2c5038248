import math

import numpy as np
import pytest
import torch

from sparsecode_pl.metrics.functional import average_coefficient_norm, co_activity_lift, s1_over_independent


def independent(n=2000, m=30, active=0.1, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(n, m, generator=random) * (torch.rand(n, m, generator=random) < active)


def test_lift_pair_by_pair():
    codes = independent(40, 5, active=0.5)
    codes[:, 4] = codes[:, 3]
    halves = codes.double().numpy()[:20], codes.double().numpy()[20:]
    total = weights = 0.0
    for one, other in (halves, halves[::-1]):
        for i in range(5):
            for j in range(5):
                if i != j:
                    weight = (one[:, i] * one[:, j]).sum()
                    total += weight * (other[:, i] * other[:, j]).mean() / other[:, i].mean() / other[:, j].mean()
                    weights += weight
    assert float(co_activity_lift(codes)) == pytest.approx(total / weights)
    assert float(co_activity_lift(codes.to_sparse_csr())) == pytest.approx(total / weights)


def test_an_atom_that_one_half_lacks_counts_there_as_little_as_one_that_is_never_active():
    codes = independent(40, 5, active=0.5)
    codes[20:, 1] = 0
    alone = codes[:, [0, 2, 3, 4]]
    assert float(co_activity_lift(codes)) == pytest.approx(float(co_activity_lift(alone)))


def test_independent_atoms_have_a_lift_of_one_however_rare():
    assert float(co_activity_lift(independent())) == pytest.approx(1, abs=0.05)
    # 2,000 atoms, each active in two rows or so: pairs that meet by chance in one row would have a lift of hundreds.
    assert float(co_activity_lift(independent(m=2000, active=0.001))) < 3


def test_groups_have_the_lift_that_they_were_made_with():
    random = torch.Generator().manual_seed(1)
    gates = (torch.rand(8000, 10, generator=random) < 0.2).repeat_interleave(3, dim=1)
    codes = independent(8000, 30, active=0.5, seed=2) * gates
    # Pairs of a group have a lift of 5, others of 1. Of what is seen of an atom, 2 partners at 5 weigh against 27 at 1.
    expected = (2 * 5 * 5 + 27) / (2 * 5 + 27)
    assert float(co_activity_lift(codes)) == pytest.approx(expected, rel=0.05)


def test_scale_does_not_matter():
    codes = independent()
    for statistic in (co_activity_lift, s1_over_independent):
        assert float(statistic(8 * codes)) == pytest.approx(float(statistic(codes)))


def test_s1_of_independent_atoms_is_its_own():
    assert float(s1_over_independent(independent(8000))) == pytest.approx(1, abs=0.02)


def test_s1_of_atoms_made_independent():
    active = torch.rand(8000, 1, generator=torch.Generator().manual_seed(3)) < 0.25
    codes = independent(8000, 10, active=0.4, seed=4) * active
    twin = independent(8000, 10, active=0.1, seed=5)
    expected = float(average_coefficient_norm(codes) / average_coefficient_norm(twin))
    assert expected > 1.3
    assert float(s1_over_independent(codes)) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("codes", [torch.zeros(10, 3), torch.zeros(0, 3), torch.eye(4)[:, :3]])
def test_where_no_atoms_meet_there_is_no_lift(codes):
    assert math.isnan(co_activity_lift(codes))
    value = float(s1_over_independent(codes))
    assert math.isnan(value) if not codes.any() else np.isfinite(value)

import math

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from sparsecode_pl.metrics.functional import average_coefficient_norm, co_activity_lift, s1_over_independent
from sparsecode_pl.metrics.functional.co_activity import _lift


def independent(n=2000, m=30, active=0.1, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(n, m, generator=random) * (torch.rand(n, m, generator=random) < active)


@pytest.mark.parametrize("lacking", [False, True], ids=["all", "one that a half lacks"])
def test_mean_lift_pair_by_pair(lacking):
    codes = independent(40, 5, active=0.5)
    codes[:, 4] = codes[:, 3]
    if lacking:
        codes[20:, 1] = 0  # its lift is not known from that half, and it has no weight there
    halves = codes.double().numpy()[:20], codes.double().numpy()[20:]
    total = weights = 0.0
    for one, other in (halves, halves[::-1]):
        known = other.any(axis=0).nonzero()[0]
        for i in known:
            for j in known:
                if i != j:
                    weight = (one[:, i] * one[:, j]).sum()
                    total += weight * (other[:, i] * other[:, j]).mean() / other[:, i].mean() / other[:, j].mean()
                    weights += weight
    assert _lift(csr_matrix(codes.double().numpy())) == pytest.approx(total / weights)


@pytest.mark.parametrize(("m", "active"), [(30, 0.1), (30, 0.6), (300, 0.05), (2000, 0.005)])
def test_independent_atoms_have_a_lift_of_one_however_rare_and_whatever_the_rows_sizes(m, active):
    codes = independent(4000, m, active)
    lift = float(co_activity_lift(codes))
    assert lift == pytest.approx(1, abs=0.05 if active * m > 12 else 0.15)  # with few active atoms, chance plays in
    sizes = torch.randn(4000, 1, generator=torch.Generator().manual_seed(9)).exp()
    assert float(co_activity_lift(sizes * codes)) == pytest.approx(lift)
    assert float(co_activity_lift(codes.to_sparse_csr())) == pytest.approx(lift)


def test_groups_have_the_lift_that_they_were_made_with():
    random = torch.Generator().manual_seed(1)
    gates = (torch.rand(4000, 30, generator=random) < 0.2).repeat_interleave(10, dim=1)
    codes = independent(4000, 300, active=0.5, seed=2) * gates
    # Two of a group have a lift of 5, others of 1. Each atom is seen with 9 partners, 5 times as often, or with 290
    # others. In rows with few open groups the shares are larger, which counts for the partners.
    expected = (9 * 5 * 5 + 290) / (9 * 5 + 290)
    assert expected < float(co_activity_lift(codes)) < 1.25 * expected


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

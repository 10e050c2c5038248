import math

import pytest

from sparsecode_pl.data import BUCKETS
from sparsecode_pl.measurement.exact import ExactCodes
from sparsecode_pl.measurement.plan import Plan
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.scoring import AtomUse


@pytest.mark.parametrize("seeds", [0, -1])
def test_no_seed_is_refused(seeds):
    with pytest.raises(ValueError, match=f"seeds is {seeds}: give at least 1"):
        Plan(seeds)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 98.0, math.nan, math.inf])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"explained_variance is .*: give a share in \(0, 1\), such as 0.98"):
        Plan(shares=(0.9, share))


def test_a_share_is_given_once():
    with pytest.raises(ValueError, match=r"explained_variance is \[0.9, 0.8, 0.9\]: give each share once"):
        Plan.of(1, [0.9, 0.8, 0.9], False)


def test_an_evaluation_is_given_once():
    plan = Plan(evaluations=(ExactCodes(), ExactCodes()))
    with pytest.raises(ValueError, match=r"evaluation ExactCodes gives .*exact_S1.*, as another one does"):
        plan.check(SparseCodingModule(4))


def test_exact_stands_for_an_evaluation():
    assert [evaluation.name for evaluation in Plan.of(1, None, True, (AtomUse(),)).evaluations] == [
        "ExactCodes",
        "AtomUse",
    ]
    assert Plan.of(1, None, False).evaluations == ()


def test_two_plans_are_alike_in_words_where_their_options_are():
    assert Plan.of(2, 0.9, True).plain() == Plan.of(2, 0.9, False, (ExactCodes(BUCKETS),)).plain()
    assert Plan.of(2, 0.9, False).plain() == Plan.of(2, [0.9], False).plain()
    plain = {"seeds": 2, "explained_variance": [0.9, 0.8], "evaluations": [], "loss": False}
    assert Plan(2, (0.9, 0.8)).plain() == plain
    assert Plan(2, (0.9, 0.8), loss=True).plain() == plain | {"loss": True}
    assert Plan().plain() != Plan(shares=(0.9,)).plain() != Plan(shares=(0.9, 0.8)).plain()

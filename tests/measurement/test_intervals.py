import math

import numpy as np
import pytest
import torch

from sparsecode_pl import Dictionary
from sparsecode_pl.measurement import ExactCodes
from sparsecode_pl.measurement.intervals import (
    Replicates,
    mean_of,
    replicates_of,
    take_sums,
)
from sparsecode_pl.metrics.functional import score_sums, scores_of_sums
from sparsecode_pl.scoring import Scorer, Scores
from sparsecode_pl.utilities.bootstrap import interval, resample

# Codes are (v, u v), with v in [0.5, 1] of each row and u in [0, 1] of each document: S1 is 1 + E[u], L is lam times
# E[v] times that, N0 is 2.
TRUE = {"S1": 1.5, "L": 0.5 * 0.75 * 1.5}


def documents(num, rows, random):
    """Codes of rows, and the document of each, with the number of rows varying between documents."""
    document = random.integers(0, num, rows)
    u, v = random.random(num)[document], random.uniform(0.5, 1, rows)
    return torch.tensor(np.stack([v, u * v], axis=1)), torch.tensor(document)


def sums_of(codes, groups, buckets):
    nothing = torch.zeros(len(codes), 3)
    return score_sums(codes, nothing, nothing, lam=0.5, groups=groups, num_buckets=buckets).numpy()


def coverage(num, rows, sets, name="S1", by_row=False):
    """How often the interval of a score covers its true value, over data sets."""
    random, covered = np.random.default_rng(0), 0
    for _ in range(sets):
        codes, groups = documents(num, rows, random)
        groups = torch.tensor(random.permutation(rows)) if by_row else groups
        low, high = replicates_of({"sums": sums_of(codes, groups, max(num, rows))})[name].interval
        covered += low <= TRUE[name] <= high
    return covered / sets


@pytest.mark.parametrize(("num", "rows"), [(60, 1000), (15, 300), (6, 120)])
@pytest.mark.parametrize("name", TRUE)
def test_the_interval_over_documents_covers_as_often_as_it_says(num, rows, name):
    assert coverage(num, rows, 400, name) == pytest.approx(0.95, abs=0.03)


def test_an_interval_over_rows_of_documents_would_cover_too_rarely():
    assert coverage(15, 300, 100, by_row=True) < 0.6


@pytest.mark.parametrize("same", [True, False])
def test_the_interval_of_a_ratio_covers_as_often_as_it_says(same):
    random, covered = np.random.default_rng(1), 0
    for _ in range(1000):
        codes, document = documents(30, 300, random)
        others, other_document = (codes, document) if same else documents(25, 250, random)
        others = others - others * torch.tensor([0, 0.5])  # (v, u v / 2), of S1 1.25
        data, control = (
            replicates_of({"sums": sums_of(*each, 30)})["S1"] for each in ((codes, document), (others, other_document))
        )
        low, high = data.over(control).interval
        covered += low <= 1.5 / 1.25 <= high
    assert covered / 1000 == pytest.approx(0.95, abs=0.03)


def test_documents_that_share_buckets_get_the_same_interval():
    random = np.random.default_rng(0)
    codes, document = documents(6000, 30_000, random)
    ends = [replicates_of({"sums": sums_of(codes, document % num, num)})["S1"].interval for num in (6000, 1000)]
    widths = [high - low for low, high in ends]
    assert widths[0] == pytest.approx(widths[1], rel=0.1)
    # The standard error of 1 + mean u is sqrt(1/12 / 6000), or a little more as documents differ in size.
    assert widths[1] == pytest.approx(2 * 1.96 * math.sqrt(1 / 12 / 6000), rel=0.15)


def test_replicates_are_the_scores_of_drawn_rows():
    codes, document = documents(5, 40, np.random.default_rng(0))
    sums = sums_of(codes, document, 8)
    drawn = resample(sums)
    assert drawn.shape == (1000, 9)
    assert drawn.mean(0) == pytest.approx(sums.sum(0), rel=0.05)
    assert np.array_equal(drawn, resample(sums))
    assert not np.array_equal(drawn, resample(sums, seed=1))
    values = replicates_of({"heldout_sums": sums})
    assert list(values) == [f"heldout_{name}" for name in ("S1", "L_norm", "N0", "L", "explained_variance")]
    assert (values["heldout_N0"].values == 2).all()
    assert values["heldout_N0"].interval == (2, 2)


def test_a_ratio_over_the_same_documents_is_narrower():
    random = np.random.default_rng(0)
    codes, document = documents(40, 800, random)
    other = codes * torch.tensor(random.uniform(0.9, 1.1, codes.shape))
    data, control = (replicates_of({"sums": sums_of(each, document, 40)})["S1"] for each in (codes, other))
    paired = data.over(control).interval
    # As if they were other documents, as many of them, or one more.
    elsewhere = Replicates(control.values, np.append(control.filled, False))
    unpaired = data.over(elsewhere).interval
    one_more = replicates_of({"sums": sums_of(other, document + (torch.arange(800) == 0) * (40 - document), 41)})["S1"]
    true = float(data.values.mean() / control.values.mean())
    for low, high in (paired, unpaired, data.over(one_more).interval):
        assert low < true < high
    width = unpaired[1] - unpaired[0]
    assert paired[1] - paired[0] < 0.2 * width
    assert width == pytest.approx(math.sqrt(2) * np.subtract(*reversed(data.interval)) / control.values.mean(), rel=0.1)
    ends = data.over(one_more).interval
    assert ends[1] - ends[0] == pytest.approx(width, rel=0.15)
    assert data.over(data).interval == (1, 1)


def test_the_mean_over_dictionaries_is_resampled_with_the_same_documents():
    codes, document = documents(40, 800, np.random.default_rng(0))
    once = replicates_of({"sums": sums_of(codes, document, 40)})
    twice = replicates_of({"sums": sums_of(2 * codes, document, 40)})
    mean = mean_of([once, twice])
    assert mean["L"].interval == pytest.approx(tuple(1.5 * end for end in once["L"].interval))
    assert mean["S1"].interval == pytest.approx(once["S1"].interval)
    assert mean_of([once, {}]) == {}


@pytest.mark.parametrize("rows", [0, 1, 20])
def test_too_few_buckets_have_no_interval(rows):
    codes, _ = documents(1, rows, np.random.default_rng(0))
    found = replicates_of({"sums": sums_of(codes, torch.zeros(rows, dtype=torch.int64), 4)})
    assert all(math.isnan(end) for one in found.values() for end in one.interval)


def test_replicates_that_are_not_finite_count_only_if_they_are_many():
    values = np.arange(1000.0)
    for spoilt in (math.nan, math.inf):
        assert interval(np.where(values < 40, spoilt, values), 10_000) == pytest.approx((64, 975), abs=1)
        assert all(math.isnan(end) for end in interval(np.where(values < 60, spoilt, values), 10_000))
    with pytest.raises(ValueError, match="level is 95: give a share"):
        interval(values, 10, level=95)


def test_codes_that_are_all_zero_have_no_interval():
    groups = torch.arange(30)
    found = replicates_of({"sums": sums_of(torch.zeros(30, 2), groups, 30)})
    assert all(math.isnan(end) for end in found["S1"].interval)
    assert found["N0"].interval == (0, 0)
    assert all(math.isnan(end) for end in found["N0"].over(found["N0"]).interval)


def test_a_pass_over_rows_gives_sums_whose_scores_are_its_scores():
    random = torch.Generator().manual_seed(0)
    dictionary = Dictionary(Dictionary.random(12, 6, random).atoms, lam=0.3)
    x, groups = torch.randn(90, 6, generator=random), torch.randint(0, 20, (90,), generator=random)
    scorer = Scorer(dictionary, [Scores(buckets=20), ExactCodes(buckets=20)])
    for part in torch.arange(90).split(40):
        scorer.update(x[part], groups[part])
    values = scorer.compute()
    sums = take_sums(values, "unseen")
    assert set(sums) == {"unseen_sums", "unseen_exact_sums"}
    assert not [name for name in values if "sums" in name]
    replicates = replicates_of(sums)
    for name, prefix in (("unseen_sums", ""), ("unseen_exact_sums", "exact_")):
        for score, value in scores_of_sums(torch.from_numpy(sums[name].sum(0))).items():
            assert float(value) == pytest.approx(float(values[prefix + score]), rel=1e-10)
            low, high = replicates[f"unseen_{prefix}{score}"].interval
            assert low < value < high
    low, high = replicates["unseen_coding_gap"].interval
    assert low < float(values["coding_gap"]) < high
    with pytest.raises(ValueError, match="groups is None, but sums are taken by bucket"):
        scorer.update(x)

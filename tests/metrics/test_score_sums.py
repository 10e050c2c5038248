import pytest
import torch
from torch.testing import assert_close
from torchmetrics import MetricCollection

from sparsecode_pl import metrics
from sparsecode_pl.metrics.functional import SUM_COLUMNS, score_sums, scores_of_sums

SCORES = {
    "S1": metrics.AverageCoefficientNorm,
    "L_norm": metrics.NormalizedLoss,
    "N0": metrics.NonZeroEntries,
    "L": metrics.SparseCodingLoss,
    "explained_variance": metrics.ExplainedVariance,
}


def scored(batches):
    collection = MetricCollection({name: metric() for name, metric in SCORES.items()}, compute_groups=False)
    for batch in batches:
        collection.update(**batch)
    return collection.compute()


@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_the_scores_of_the_total_are_those_of_the_metrics(make_rows, layout):
    batches = [batch.inputs(layout) for batch in make_rows(200).cut(120, 30, 50)[1]]
    metric = metrics.ScoreSums(num_buckets=7, d_model=5)
    for batch in batches:
        metric.update(**batch)
    sums = metric.compute()
    for name, value in scored(batches).items():
        assert_close(scores_of_sums(sums.sum(0))[name], value, rtol=1e-10, atol=0)
        # Any leading shape, of which each is its own.
        assert_close(scores_of_sums(sums.sum(0).expand(2, 3, -1))[name], value.expand(2, 3), rtol=1e-10, atol=0)


def test_a_bucket_has_the_scores_of_its_rows(make_rows):
    whole, _ = make_rows(200).cut(200)
    inputs = whole.inputs("dense")
    inputs["x"] -= inputs["x"].mean(0)  # which then counts for each bucket
    found = scores_of_sums(score_sums(**inputs, num_buckets=7))
    for bucket in range(6):
        rows = inputs["groups"] == bucket
        part = {name: value[rows] if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
        for name, value in scored([part]).items():
            if name != "explained_variance":  # about the mean of all rows
                assert_close(found[name][bucket], value, rtol=1e-10, atol=0)
        residual, x = part["residual"].double(), part["x"].double()
        assert float(found["explained_variance"][bucket]) == pytest.approx(
            float(1 - residual.square().sum() / x.square().sum()), abs=1e-6
        )
    assert all(value[6].isnan() for value in found.values())  # the one without rows


def test_codes_that_are_all_zero_have_the_scores_that_the_metrics_give_them(make_rows):
    inputs = make_rows(20).cut(20)[0].inputs("dense")
    inputs["codes"] = torch.zeros_like(inputs["codes"])
    inputs["x"] = torch.ones_like(inputs["x"])  # nor is there any variance
    found = scores_of_sums(score_sums(**inputs, num_buckets=7).sum(0))
    with pytest.warns(UserWarning, match="every code is zero"):
        expected = scored([inputs])
    for name, value in expected.items():
        assert_close(found[name], value, rtol=1e-10, atol=0, equal_nan=True)
    assert found["S1"].isnan()
    assert found["L_norm"].isnan()
    assert found["explained_variance"].isnan()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": None}, "groups is None, but sums are taken by bucket: give the bucket of each row"),
        ({"groups": torch.zeros(3, dtype=torch.int64)}, r"groups has shape \(3,\), but there are 20 rows of codes"),
        ({"bound": torch.zeros(3)}, r"bound has shape \(3,\), but there are 20 rows of codes"),
        ({"x": torch.zeros(20, 4)}, r"x has shape \(20, 4\), but d_model is 5: give \(n, 5\)"),
        ({"residual": torch.zeros(20, 4)}, r"residual has shape \(20, 4\), but x \(20, 5\)"),
    ],
)
def test_wrong_input_is_refused(make_rows, change, message):
    inputs = make_rows(20).cut(20)[0].inputs() | change
    with pytest.raises(ValueError, match=message):
        metrics.ScoreSums(num_buckets=7, d_model=5).update(**inputs)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="num_buckets is 0: give at least 1"):
        metrics.ScoreSums(num_buckets=0, d_model=5)
    with pytest.raises(ValueError, match=r"sums have shape \(8,\): give \(\.\.\., 9\)"):
        scores_of_sums(torch.zeros(len(SUM_COLUMNS) - 1))

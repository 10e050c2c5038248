"""What all metrics of samples have in common: the NumPy answer, however the rows come."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close
from torchmetrics import MetricCollection

# From float32 input only sums in float64 come as near as this.
RTOL = 1e-11

PENALISED = ["sparse_coding_loss", "normalized_loss", "coding_gap", "coefficient_histogram", "score_sums"]
SCALE_FREE = ["nonzero_entries", "average_coefficient_norm", "average_coefficient_norm_p", "normalized_loss"]
TAKING_CODES = [
    *PENALISED,
    "nonzero_entries",
    "average_coefficient_norm",
    "average_coefficient_norm_p",
    "mean_max_coefficient",
    "atom_activity",
]


def needed(case, batch, layout="csr"):
    return {name: value for name, value in batch.inputs(layout).items() if name in case.takes}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_both_forms_give_the_numpy_answer(case, make_rows, layout, dtype):
    whole, _ = make_rows(40, dtype=dtype).cut(40)
    metric = case.metric()
    metric.update(**needed(case, whole, layout))
    for value in (metric.compute(), case.function(**needed(case, whole, layout))):
        assert value.dtype == (torch.int64 if value.shape == (60,) else torch.float64)
        np.testing.assert_allclose(value, case.answer(whole), rtol=RTOL)


@given(
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=6).filter(any),
    layout=st.sampled_from(["dense", "csr"]),
    seed=st.integers(0, 9),
)
@settings(max_examples=25, deadline=None)
def test_batches_do_not_matter(case, make_rows, sizes, layout, seed):
    # A first row that is neither all zero nor alone keeps every answer defined.
    rows = make_rows(sum(sizes) + 2, seed)
    rows.codes[0, 0] = 1
    whole, batches = rows.cut(2, *sizes)
    metric = case.metric()
    for batch in batches:
        metric.update(**needed(case, batch, layout))
    np.testing.assert_allclose(metric.compute(), case.answer(whole), rtol=RTOL)


def test_forward_gives_the_batch_and_accumulates(case, make_rows):
    whole, batches = make_rows(30).cut(12, 18)
    metric = case.metric()
    for batch in batches:
        np.testing.assert_allclose(metric(**needed(case, batch)), case.answer(batch), rtol=RTOL)
    np.testing.assert_allclose(metric.compute(), case.answer(whole), rtol=RTOL)


@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_no_rows(case, make_rows, layout):
    empty, _ = make_rows(0).cut(0)
    metric = case.metric()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # above all, none that blames lam
        metric.update(**needed(case, empty, layout))
        values = metric.compute(), case.function(**needed(case, empty, layout))
    for value in values:
        assert not value.any() if case.is_sum else value.isnan().all()


def test_no_update(case):
    metric = case.metric()
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        value = metric.compute()
    assert not value.any() if case.is_sum else value.isnan().all()


def test_long_sums_keep_small_terms(case, make_rows):
    # After the first batch, a float32 sum would lose all that follows: its digits end above 100.
    rows = make_rows(2100)
    for array in (rows.codes, rows.residual, rows.x):
        array[:100] *= 1e4
    rows.lam[:] = 1
    whole, batches = rows.cut(100, *[10] * 200)
    metric = case.metric()
    for batch in batches:
        metric.update(**needed(case, batch))
    np.testing.assert_allclose(metric.compute(), case.answer(whole), rtol=RTOL)


@pytest.mark.parametrize(
    "cast",
    [nn.Module.float, nn.Module.half, lambda module: module.to(torch.bfloat16)],
    ids=["float", "half", "to-bfloat16"],
)
def test_casting_the_module_casts_no_sums(case, make_rows, cast):
    whole, batches = make_rows(3000).cut(1000, 2000)
    module = nn.Module()
    module.metric = case.metric()
    cast(module)
    for batch in batches:
        module.metric.update(**needed(case, batch))
    np.testing.assert_allclose(module.metric.compute(), case.answer(whole), rtol=RTOL)


def test_states_have_64_bits_from_the_start(case):
    # A process without a batch must still send what the others send.
    assert {state.dtype for state in case.metric().metric_state.values()} <= {torch.float64, torch.int64}


def test_inference_mode_inside_and_outside(case, make_rows):
    whole, batches = make_rows(30).cut(10, 20)
    metric = case.metric()
    with torch.inference_mode():
        metric.reset()
        metric.update(**needed(case, batches[0]))
    metric.update(**needed(case, batches[1]))
    np.testing.assert_allclose(metric.compute(), case.answer(whole), rtol=RTOL)


@pytest.mark.parametrize("case", TAKING_CODES, indirect=True)
def test_stored_zeros_are_zeros(case, make_rows, csr):
    whole, _ = make_rows(20).cut(20)
    codes = csr(torch.ones(whole.codes.shape))  # every entry is stored
    codes.values().copy_(torch.tensor(whole.codes).flatten())
    assert (codes.values() == 0).any()
    inputs = needed(case, whole) | {"codes": codes}
    np.testing.assert_allclose(case.function(**inputs), case.answer(whole), rtol=RTOL)


@pytest.mark.parametrize("case", TAKING_CODES, indirect=True)
def test_int32_indices(case, make_rows):
    whole, _ = make_rows(20).cut(20)
    inputs = needed(case, whole)
    codes = inputs["codes"]
    parts = codes.crow_indices().int(), codes.col_indices().int(), codes.values()
    inputs["codes"] = torch.sparse_csr_tensor(*parts, size=codes.shape, check_invariants=True)
    np.testing.assert_allclose(case.function(**inputs), case.answer(whole), rtol=RTOL)


@pytest.mark.parametrize("case", PENALISED, indirect=True)
def test_penalty_as_a_tensor(case, make_rows):
    whole, _ = make_rows(20).cut(20)
    inputs = needed(case, whole)
    inputs["lam"] = torch.tensor(inputs["lam"], dtype=torch.float64)
    np.testing.assert_allclose(case.function(**inputs), case.answer(whole), rtol=RTOL)


@pytest.mark.parametrize("case", [*SCALE_FREE, "explained_variance", "atom_activity"], indirect=True)
@given(exponent=st.floats(-12, 12), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_scale_does_not_matter(case, make_rows, exponent, seed):
    whole, _ = make_rows(30, seed, dtype=np.float64).cut(30)
    before = needed(case, whole)
    after = {name: value * 10**exponent for name, value in before.items()}
    assert_close(case.function(**after), case.function(**before), rtol=1e-11, atol=0)


def test_one_collection_serves_all(cases, make_rows):
    whole, batches = make_rows(30).cut(12, 18)
    collection = MetricCollection({name: case.metric() for name, case in cases.items()}, compute_groups=False)
    for batch in batches:
        collection.update(**batch.inputs())
    for name, value in collection.compute().items():
        np.testing.assert_allclose(value, cases[name].answer(whole), rtol=RTOL)


@pytest.mark.parametrize(
    "case",
    ["sparse_coding_loss", "normalized_loss", "coding_gap", "explained_variance", "score_sums"],
    indirect=True,
)
def test_wrong_rows_are_refused(case, make_rows):
    inputs = needed(case, make_rows(20).cut(20)[0])
    inputs["residual"] = inputs["residual"][1:]
    with pytest.raises(ValueError, match=r"residual has shape \(19, 5\).*give"):
        case.metric().update(**inputs)


@pytest.mark.parametrize("case", PENALISED, indirect=True)
def test_wrong_penalty_is_refused(case, make_rows):
    inputs = needed(case, make_rows(20).cut(20)[0])
    for lam in (0, -0.5, float("nan"), float("inf"), torch.tensor(0.0)):
        with pytest.raises(ValueError, match=rf"lam is {float(lam)}: give a finite penalty above 0"):
            case.metric().update(**inputs | {"lam": lam})
    with pytest.raises(ValueError, match=r"lam has shape \(1,\): give a float or a 0-dim tensor"):
        case.metric().update(**inputs | {"lam": torch.ones(1)})


@pytest.mark.parametrize("case", TAKING_CODES, indirect=True)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda codes: codes.to_dense()[0], r"codes have shape \(12,\).*give floats \(n, m\)"),
        (lambda codes: codes.to_dense()[:, :0], r"codes have shape \(20, 0\).*give floats \(n, m\)"),
        (lambda codes: codes.to_dense().long(), r"dtype torch.int64: give floats \(n, m\)"),
        (lambda codes: codes.to_dense().to_sparse(), r"layout torch.sparse_coo: give a dense tensor or CSR"),
    ],
)
def test_wrong_codes_are_refused(case, make_rows, spoil, message):
    inputs = needed(case, make_rows(20).cut(20)[0])
    with pytest.raises(ValueError, match=message):
        case.metric().update(**inputs | {"codes": spoil(inputs["codes"])})

import numpy as np
import pytest
import torch

from sparsecode_pl.data import SourceActivations, SubsetSource, TensorActivations, TensorSource
from sparsecode_pl.data.checks import check_activations, check_columns


def spoilt() -> torch.Tensor:
    x = torch.zeros(5, 3)
    x[2, 1], x[2, 2], x[4, 0] = float("inf"), float("nan"), float("-inf")
    return x


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            spoilt(),
            ValueError,
            r"it: 3 of 15 activations are NaN or infinite, in 2 of 5 rows \(first: row 2, dim.* 1\)",
        ),
        (torch.zeros(1, 3), ValueError, "it: activations have 1 samples: give at least 2"),
        (torch.zeros(0, 3), ValueError, "it: activations have 0 samples: give at least 2"),
        (torch.zeros(6), ValueError, r"it: activations have shape \(6,\): give a matrix"),
        (torch.zeros(2, 3, 4), ValueError, r"it: activations have shape \(2, 3, 4\): give a matrix"),
        (torch.zeros(4, 0), ValueError, r"it: activations have shape \(4, 0\): give a matrix"),
        (torch.zeros(4, 3, dtype=torch.int64), TypeError, r"it: activations are torch.int64: give a floating-point"),
        ([[1.0, 2.0]], TypeError, "it: activations are list: give a floating-point tensor"),
    ],
)
def test_what_is_wrong_is_said(x, error, message):
    with pytest.raises(error, match=message):
        check_activations(x, source="it")


def test_values_beyond_float32_are_found():
    with pytest.raises(ValueError, match="1 of 4 activations are NaN or infinite"):
        check_activations(torch.tensor([[1e300, 0.0], [0.0, 1.0]], dtype=torch.float64), source="it")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_type_becomes_contiguous_float32(dtype):
    x = torch.arange(6, dtype=dtype).reshape(2, 3).T.requires_grad_()
    checked = check_activations(x, source="it")
    assert checked.dtype == torch.float32
    assert checked.is_contiguous()
    assert not checked.requires_grad
    assert checked.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_data_module_checks_its_rows_at_setup():
    with pytest.raises(ValueError, match="mine: 3 of 15"):
        TensorActivations(spoilt(), name="mine").setup()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "b", "a"], ["a", "b", "a"]),
        (("a", "b", "a"), ["a", "b", "a"]),
        (np.array(["a", "b", "a"]), ["a", "b", "a"]),
        (np.array(["a", "b", "a"], dtype=object), ["a", "b", "a"]),
        ([4, 5, 4], torch.tensor([4, 5, 4])),
        (np.array([4, 5, 4], dtype=np.uint16), torch.tensor([4, 5, 4])),
        (np.array([4, 5, 4], dtype=">i4"), torch.tensor([4, 5, 4])),
        (np.array([True, False, True]), torch.tensor([True, False, True])),
        (np.array([0.5, 1, 0.5], dtype=np.float32), torch.tensor([0.5, 1, 0.5], dtype=torch.float64)),
        (torch.tensor([4, 5, 4], dtype=torch.int16), torch.tensor([4, 5, 4], dtype=torch.int16)),
    ],
)
def test_columns_become_strings_or_tensors_and_may_decide_a_split(values, expected):
    found = check_columns({"name": values}, 3, source="it")["name"]
    assert type(found) is type(expected)
    assert torch.equal(found, expected) if isinstance(found, torch.Tensor) else found == expected
    repeated = values * 20 if isinstance(values, list | tuple) else values[torch.arange(60) % 3]
    source = TensorSource(torch.randn(60, 2), columns={"name": repeated})
    for one in (source, SubsetSource(source, torch.arange(59, -1, -1))):
        data = SourceActivations(one, heldout_by="name", val_split=0.4)
        assert sorted(map(len, data.row_sets.values())) == [20, 40]
        control = data.over(TensorSource(torch.randn(60, 2), columns={"name": repeated}), control=True)
        assert control.split_like is not None or one is not source


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (["a"] * 4, ValueError, "it: column 'name' has 4 entries, but there are 3 rows: give one entry for each"),
        (torch.zeros(3, 2), ValueError, r"it: column 'name' has shape \(3, 2\): give one entry for each row"),
        (np.zeros(3, dtype=complex), TypeError, "it: column 'name' holds complex128: give numbers or strings"),
        ([None, "a", "b"], TypeError, "it: column 'name' holds object: give numbers or strings"),
    ],
)
def test_what_is_wrong_with_a_column_is_said(values, error, message):
    with pytest.raises(error, match=message):
        check_columns({"name": values}, 3, source="it")
    with pytest.raises(error, match=message):
        SourceActivations(TensorSource(torch.randn(3, 2), "it", columns={"name": values})).setup()

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from sparsecode_pl.utilities.arguments import check_arguments, check_number, check_tensor


def example(
    count: int = 1,
    share: float | None = None,
    flag: bool = False,
    name: str = "",
    kind: Literal["a", "b"] = "a",
    x: Tensor | None = None,
) -> None:
    """Any function."""


@pytest.mark.parametrize(
    "given",
    [
        {"count": 3, "share": 2, "flag": True, "name": "a", "kind": "b", "x": torch.zeros(2)},
        {"count": np.int64(3), "share": np.float32(0.5)},
        {"share": None, "x": None, "other": object()},
    ],
)
def test_what_the_annotations_say_is_taken(given):
    check_arguments(example, given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 2.0}, "count is 2.0: give an integer"),
        ({"count": True}, "count is True: give an integer"),
        ({"count": None}, "count is None: give an integer"),
        ({"count": 2**63}, "count is 9223372036854775808: give an integer"),
        ({"share": "0.5"}, "share is '0.5': give a number or None"),
        ({"share": 10**5000}, r"share is about 10 \*\* 5000: give a number or None"),
        ({"flag": 1}, "flag is 1: give True or False"),
        ({"name": b"a"}, "name is b'a': give a text"),
        ({"kind": 3}, "kind is 3: give 'a' or 'b'"),
        ({"x": [1.0]}, r"x is \[1.0\]: give a tensor or None"),
    ],
)
def test_anything_else_is_named(given, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_arguments(example, given)


def test_a_number_may_be_a_tensor_of_one():
    assert check_number(torch.tensor(2), "lam") == 2.0
    for wrong in (torch.tensor([2.0]), torch.tensor(True), torch.tensor(2.0, device="meta"), True, "2", 1j):
        with pytest.raises(ValueError, match=r"^lam is .*: give a number"):
            check_number(wrong, "lam")


def test_tensors_without_values_or_of_another_layout_are_named():
    check_tensor(torch.eye(2).to_sparse_csr(), "x", sparse=True)
    for wrong, message in [
        (torch.eye(2).to_sparse_csr(), "x has layout torch.sparse_csr: give a dense tensor, such as x.to_dense"),
        (torch.eye(2).to_sparse(), "x has layout torch.sparse_coo: give a dense tensor"),
        (torch.eye(2, device="meta"), "x is on the device meta, which holds no values"),
        (np.eye(2), r"x is a ndarray: give a tensor, such as torch.as_tensor\(x\)"),
        (torch.eye(2).long(), r"x is torch.int64: give floats, such as x.float\(\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            check_tensor(wrong, "x", floating=True)

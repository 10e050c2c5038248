"""What may be given in place of a tensor, a number or a text."""

from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor


def _with(value: float) -> Callable[[Tensor], Tensor]:
    """Puts a value into the middle of a tensor."""

    def put(x: Tensor) -> Tensor:
        x = x.clone()
        if x.numel():
            x.view(-1)[x.numel() // 2] = value
        return x

    return put


def _in_inference(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.clone()


#: What changes nothing about the values of a tensor.
HARMLESS: dict[str, Callable[[Tensor], Any]] = {
    "as it is": lambda x: x,
    "column by column": lambda x: x.T.contiguous().T if x.ndim == 2 else x,
    "every second": lambda x: x.repeat_interleave(2, 0)[::2],
    "with gradient": lambda x: x.clone().requires_grad_(),
    "parameter": lambda x: torch.nn.Parameter(x.clone()),
    "of inference": _in_inference,
}
#: What makes something else of a tensor, which may be no tensor.
HARMFUL: dict[str, Callable[[Tensor], Any]] = {
    "int64": lambda x: x.long(),
    "bool": lambda x: x > 0,
    "uint8": lambda x: torch.zeros(x.shape, dtype=torch.uint8),
    "float16": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(),
    "complex": lambda x: x.to(torch.complex64),
    "other precision": lambda x: x.double() if x.dtype == torch.float32 else x.float(),
    "meta": lambda x: x.to("meta"),
    "no rows": lambda x: x[:0],
    "no columns": lambda x: x[..., :0],
    "a row less": lambda x: x[1:],
    "a row more": lambda x: torch.cat([x, x[:1]]),
    "a column less": lambda x: x[..., 1:],
    "a column more": lambda x: torch.cat([x, x[..., :1]], -1),
    "one column": lambda x: x[..., :1].flatten(),
    "one dimension more": lambda x: x[None],
    "one number": lambda x: torch.tensor(1.0),
    "NaN": _with(float("nan")),
    "infinity": _with(float("inf")),
    "minus infinity": _with(-float("inf")),
    "negative": _with(-3.0),
    "negated": lambda x: -x,
    "largest": _with(3e38),
    "smallest": _with(1e-45),
    "zeros": torch.zeros_like,
    "sparse CSR": lambda x: x.to_sparse_csr() if x.ndim == 2 else x.to_sparse(),
    "sparse COO": lambda x: x.to_sparse(),
    "array": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "tuple": lambda x: (x, x),
    "None": lambda x: None,
    "text": lambda x: "x",
    "number": lambda x: 1.0,
    "mapping": lambda x: {"x": x},
}
SPOILT = HARMLESS | HARMFUL


def fit(how: str, x: Tensor) -> str:
    """A way to spoil a tensor, or another where it is of integers and the way is for floats."""
    floats = ("NaN", "infinity", "minus infinity", "largest", "with gradient", "parameter")
    return how if x.is_floating_point() or how not in floats else "list"


#: What may be given for any argument.
ANYTHING: list[Any] = [
    *(None, True, False, "", "a", "1", "auto", "data", [], {}, (), [1.0], {"class_path": "a"}, object(), int, len),
    *(-1, 0, 1, 2, 3, 7, 2**63, 10**400, -(10**400)),
    *(-0.5, 0.0, 0.05, 0.1, 0.5, 0.9, 1.0, 1.5, 2.0, 5.0, 1e-12, 1e-45, 5e-324, 1e12, 1e38, 1e308),
    *(float("nan"), float("inf"), -float("inf"), 1j, np.float32(0.5), np.float64(0.5), np.int64(3), np.bool_(True)),
    *(torch.tensor(0.5), torch.tensor(3), torch.tensor([1.0, 2.0]), torch.tensor(True), np.zeros(3), b"bytes"),
]
anything = st.sampled_from(ANYTHING)


def is_number(value: object) -> bool:
    """Whether a value is a real number, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def is_integer(value: object) -> bool:
    """Whether a value is an integer, and no truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def conforms(value: object, annotation: str) -> bool:
    """Whether a value is of the kind that a simple annotation says, in its words; true for any other annotation."""
    kinds: Mapping[str, bool] = {
        "int": is_integer(value),
        "float": is_number(value),
        "bool": isinstance(value, bool),
        "str": isinstance(value, str),
        "None": value is None,
    }
    parts = annotation.replace(" ", "").split("|")
    return any(kinds[part] for part in parts) if set(parts) <= kinds.keys() else True

"""What is too small to be told from a rounding error."""

import torch
from torch import Tensor

#: Multiples of the dtype's precision and of a sample's norm that a coefficient must exceed.
MULTIPLE = 32


def rounding(norms: Tensor, dtype: torch.dtype) -> Tensor:
    """The coefficient of each sample up to which it may be nothing but a rounding error.

    Args:
        norms: L2 norms of the samples, (n,).
        dtype: that of the samples.

    Returns:
        `MULTIPLE` times the dtype's machine epsilon times the norm, (n,), of the dtype.

    Example:
        >>> rounding(torch.tensor([1.0, 0.0]), torch.float32)
        tensor([3.8147e-06, 0.0000e+00])
    """
    return (MULTIPLE * torch.finfo(dtype).eps * norms).to(dtype)

"""The directions of rows, at any scale."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def directions(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Unit rows along the rows of a matrix; a zero row gives a random direction.

    Rows are divided by a power of two near their largest entry first, so that no square overflows or vanishes.

    Args:
        x: finite rows, (n, d).
        generator: of the random directions.

    Returns:
        (n, d).

    Example:
        >>> directions(torch.tensor([[3e-30, 4e-30], [0.0, -2e30]]))
        tensor([[ 0.6000,  0.8000],
                [ 0.0000, -1.0000]])
    """
    largest = x.abs().amax(dim=1, keepdim=True)
    zero = largest[:, 0] == 0
    scaled = x / torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent - 1)
    scaled[zero] = torch.randn(int(zero.sum()), x.shape[1], generator=generator).to(x)
    return normalize(scaled, dim=1)


def repeated(x: Tensor) -> Tensor:
    """Which rows equal a row before them, (n,) bool.

    Args:
        x: (n, d).

    Example:
        >>> repeated(torch.tensor([[5.0, 1.0], [2.0, 3.0], [5.0, 1.0]]))
        tensor([False, False,  True])
    """
    _, kind = torch.unique(x, dim=0, return_inverse=True)
    order = kind.argsort(stable=True)
    again = torch.zeros_like(kind, dtype=torch.bool)
    again[order[1:]] = kind[order[1:]] == kind[order[:-1]]
    return again

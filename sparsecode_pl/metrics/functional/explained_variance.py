"""Share of the variance about the mean that the reconstruction explains."""

import math

import torch
from torch import Tensor

from sparsecode_pl.metrics.functional._codes import squared_norm
from sparsecode_pl.utilities.arguments import check_tensor


def _explained_variance_update(residual: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Sum of squared residuals, sum of x (d,), sum of its squares, and the number of rows."""
    # torchmetrics' own classes sum in the input dtype; for float32 rows with a large mean the result is noise.
    check_tensor(residual, "residual", floating=True)
    check_tensor(x, "x", floating=True)
    if x.ndim != 2 or residual.shape != x.shape:
        raise ValueError(
            f"residual has shape {tuple(residual.shape)}, but x {tuple(x.shape)}: give both as (n, d), of the same rows"
        )
    return squared_norm(residual), x.sum(dim=0, dtype=torch.float64), squared_norm(x), len(x)


def _explained_variance_compute(
    squared_residuals: Tensor, sum_x: Tensor, sum_squares: Tensor, rows: int | Tensor
) -> Tensor:
    variation = sum_squares - sum_x.square().sum() / rows
    # A smaller difference is only rounding error, and dividing by it would be meaningless.
    rounding = 8 * torch.finfo(torch.float64).eps * sum_squares
    return torch.where(variation > rounding, 1 - squared_residuals / variation, math.nan)


def explained_variance(residual: Tensor, x: Tensor) -> Tensor:
    r"""Explained variance about the mean of all scored rows.

    .. math:: 1 - \frac{\sum_j \lVert x_j - \hat{x}_j \rVert_2^2}{\sum_j \lVert x_j - \bar{x} \rVert_2^2}

    Args:
        residual: activations minus their reconstruction, (n, d).
        x: activations, (n, d), centred or not.

    Returns:
        0-dim float64 <= 1, negative if the mean is a better reconstruction. NaN if there are no rows or all are equal.

    Raises:
        ValueError: residual and x are not matrices of one shape.

    Example:
        >>> import torch
        >>> x = torch.tensor([[101.0, 0.0], [99.0, 0.0]])
        >>> explained_variance(residual=torch.tensor([[0.5, 0.0], [0.0, 0.5]]), x=x)  # 1 - 0.5 / 2
        tensor(0.7500, dtype=torch.float64)
    """
    return _explained_variance_compute(*_explained_variance_update(residual, x))

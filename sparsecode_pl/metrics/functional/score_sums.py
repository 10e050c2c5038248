"""The sums that the scores are ratios of, for each bucket of rows, and the scores of such sums."""

import math

import torch
from torch import Tensor

from sparsecode_pl.metrics.functional._codes import check_codes, check_penalty, row_maxima
from sparsecode_pl.utilities.arguments import check_arguments, check_tensor

#: The sums over rows, in the order of the columns.
SUM_COLUMNS = (
    *("rows", "nonzeros", "coefficients", "maxima", "objective", "penalised_maxima"),
    *("squared_residuals", "squared_distances", "bounds"),
)

_ROWS, _DISTANCES = SUM_COLUMNS.index("rows"), SUM_COLUMNS.index("squared_distances")


def _score_sums_update(
    codes: Tensor,
    residual: Tensor,
    x: Tensor,
    lam: float | Tensor,
    groups: Tensor,
    bound: Tensor | None,
    num_buckets: int,
) -> tuple[Tensor, Tensor]:
    """Sums of each bucket, (num_buckets, 9), with squares of x in place of distances; and the sum of x, (d,)."""
    check_codes(codes, residual)
    check_penalty(lam)
    check_tensor(x, "x", floating=True)
    if residual.shape != x.shape:
        raise ValueError(
            f"residual has shape {tuple(residual.shape)}, but x {tuple(x.shape)}: give both as (n, d), of the same rows"
        )
    for name, values in (("groups", groups), ("bound", bound)):
        if values is not None:
            check_tensor(values, name, floating=name == "bound")
        if values is not None and values.shape != (len(codes),):
            raise ValueError(
                f"{name} has shape {tuple(values.shape)}, but there are {len(codes)} rows of codes: give "
                f"({len(codes)},), one number for each sample"
            )
    if groups.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"groups are {groups.dtype}: give the number of each row's bucket, int64")
    if groups.device.type == "cpu" and len(groups) and not (groups.min() >= 0 and groups.max() < num_buckets):
        raise ValueError(
            f"groups are from {int(groups.min())} to {int(groups.max())}: give numbers in [0, {num_buckets}), or more "
            "buckets"
        )
    nonzeros, coefficients = _row_sums(codes)
    maxima = row_maxima(codes).double()
    squared_residuals, squares = (
        torch.linalg.vector_norm(each, dim=1, dtype=torch.float64).square() for each in (residual, x)
    )
    columns = [
        *(torch.ones_like(maxima), nonzeros, coefficients, maxima),
        *(squared_residuals + lam * coefficients, lam * maxima, squared_residuals, squares),
        torch.zeros_like(maxima) if bound is None else bound.double(),
    ]
    rows = torch.stack(columns, dim=1)
    sums = rows.new_zeros(num_buckets, len(SUM_COLUMNS)).index_add_(0, groups, rows)
    return sums, x.sum(dim=0, dtype=torch.float64)


def _row_sums(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Number and sum of the non-zero coefficients of each row, both (n,) float64."""
    if codes.layout != torch.sparse_csr:
        return torch.count_nonzero(codes, dim=1).double(), codes.sum(dim=1, dtype=torch.float64)
    crow, values = codes.crow_indices(), codes.values()
    # Counts are exact in float32 too, which is faster.
    nonzeros = torch.segment_reduce((values != 0).float(), "sum", offsets=crow, initial=0.0)
    coefficients = torch.segment_reduce(values.double(), "sum", offsets=crow, initial=0.0)
    return nonzeros.double(), coefficients


def _score_sums_compute(sums: Tensor, sum_x: Tensor) -> Tensor:
    rows, squares = sums[:, _ROWS], sums[:, _DISTANCES]
    mean_square = (sum_x / rows.sum().clamp(min=1)).square().sum()
    distances = squares - rows * mean_square
    # A smaller total is only rounding error, as in `explained_variance`.
    rounding = 8 * torch.finfo(torch.float64).eps * squares.sum()
    sums = sums.clone()
    sums[:, _DISTANCES] = torch.where(distances.sum() > rounding, distances, 0.0)
    return sums


def score_sums(
    codes: Tensor,
    residual: Tensor,
    x: Tensor,
    lam: float | Tensor,
    groups: Tensor,
    num_buckets: int,
    bound: Tensor | None = None,
) -> Tensor:
    """Sums over the rows of each bucket, from which `scores_of_sums` computes the scores.

    The columns are named by `SUM_COLUMNS`: the number of rows, and over the rows the sums of the non-zero coefficients'
    number, of the coefficients, of the largest coefficient, of the objective, of lam times the largest coefficient, of
    the squared residual, of the squared distance from the mean, and of the bounds.

    Squared distances are about the mean of all rows, which a resampling of the buckets leaves fixed. Of a bucket they
    are taken as its sum of squares minus its number of rows times the squared norm of that mean. In total this is
    exact. Of a single bucket it is nearly so where x is centred well, as activations in the units of the codes are.

    Args:
        codes: coefficients >= 0, (n, m), dense or CSR.
        residual: activations minus their reconstruction, (n, d), in the units of the codes.
        x: activations, (n, d), in the same units, centred.
        lam: penalty > 0, in the same units.
        groups: the bucket of each row, (n,) int64, in [0, num_buckets).
        num_buckets: number of buckets, >= 1.
        bound: a lower bound on each sample's objective, (n,), as `lower_bound` returns; 0 if None.

    Returns:
        (num_buckets, 9) float64.

    Raises:
        ValueError: codes are not a float matrix, dense or CSR; residual, x, groups or bound have another number of
            rows; lam is not finite and > 0.

    Example:
        >>> codes, x = torch.tensor([[2.0, 1.0], [3.0, 0.0], [1.0, 1.0]]), torch.zeros(3, 4)
        >>> sums = score_sums(codes, x, x, lam=0.5, groups=torch.tensor([0, 1, 0]), num_buckets=3)
        >>> dict(zip(SUM_COLUMNS, sums.T.tolist()))["coefficients"]
        [5.0, 3.0, 0.0]
        >>> scores_of_sums(sums)["S1"]  # (2 + 1 + 1 + 1) / (2 + 1), 3 / 3, and no rows
        tensor([1.6667, 1.0000,    nan], dtype=torch.float64)
        >>> scores_of_sums(sums.sum(0))["S1"]  # (5 + 3) / (3 + 3)
        tensor(1.3333, dtype=torch.float64)
    """
    check_arguments(score_sums, {"num_buckets": num_buckets})
    if num_buckets < 1:
        raise ValueError(f"num_buckets is {num_buckets}: give at least 1")
    return _score_sums_compute(*_score_sums_update(codes, residual, x, lam, groups, bound, num_buckets))


def scores_of_sums(sums: Tensor) -> dict[str, Tensor]:
    """The scores of sums such as `score_sums` returns, whole or added up in any way.

    Args:
        sums: (..., 9) float64, in the order of `SUM_COLUMNS`.

    Returns:
        "S1", "L_norm", "N0", "L" and "explained_variance", each (...) float64, NaN where it is not defined. They are
        the values of `AverageCoefficientNorm`, `NormalizedLoss`, `NonZeroEntries`, `SparseCodingLoss` and
        `ExplainedVariance` over the same rows.

    Raises:
        ValueError: sums do not have 9 columns.

    Example:
        >>> scores = scores_of_sums(torch.tensor([2.0, 3, 6, 5, 8, 2.5, 5, 20, 0]).double())
        >>> {name: round(float(value), 2) for name, value in scores.items()}
        {'S1': 1.2, 'L_norm': 3.2, 'N0': 1.5, 'L': 4.0, 'explained_variance': 0.75}
    """
    check_tensor(sums, "sums", floating=True)
    if sums.ndim == 0 or sums.shape[-1] != len(SUM_COLUMNS):
        raise ValueError(
            f"sums have shape {tuple(sums.shape)}: give (..., {len(SUM_COLUMNS)}), the columns of `SUM_COLUMNS`"
        )
    of = dict(zip(SUM_COLUMNS, sums.unbind(-1), strict=True))
    return {
        "S1": _ratio(of["coefficients"], of["maxima"]),
        "L_norm": _ratio(of["objective"], of["penalised_maxima"]),
        "N0": _ratio(of["nonzeros"], of["rows"]),
        "L": _ratio(of["objective"], of["rows"]),
        "explained_variance": 1 - _ratio(of["squared_residuals"], of["squared_distances"]),
    }


def _ratio(total: Tensor, by: Tensor) -> Tensor:
    return torch.where(by > 0, total / by, math.nan)

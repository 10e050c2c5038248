"""Every metric beside its plain NumPy answer."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from sparsecode_pl import metrics
from sparsecode_pl.metrics import functional

NUM_ATOMS = 12
WIDTH = 5
NUM_BUCKETS = 7


def to_csr(codes: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return codes.to_sparse_csr()


@dataclass(frozen=True)
class Rows:
    """Scored samples: codes (n, m), residual and x (n, d), each sample's own penalty, lower bound and bucket (n,)."""

    codes: np.ndarray
    residual: np.ndarray
    x: np.ndarray
    lam: np.ndarray
    bound: np.ndarray
    groups: np.ndarray

    def cut(self, *sizes: int) -> tuple["Rows", list["Rows"]]:
        """Batches of the given sizes, each at one penalty, and all their rows together."""
        ends = np.cumsum(sizes)
        assert ends[-1] == len(self.codes)
        parts = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        lam = np.concatenate([np.full_like(self.lam[part], self.lam[part][:1].sum()) for part in parts])
        whole = replace(self, lam=lam)
        return whole, [Rows(*(getattr(whole, field.name)[part] for field in fields(Rows))) for part in parts]

    def inputs(self, layout: str = "csr") -> dict[str, Any]:
        """What `update` takes of a batch at one penalty."""
        codes = torch.tensor(self.codes)
        return {
            "codes": to_csr(codes) if layout == "csr" else codes,
            "residual": torch.tensor(self.residual),
            "x": torch.tensor(self.x),
            "lam": float(self.lam[0]) if len(self.lam) else 1.0,
            "bound": torch.tensor(self.bound),
            "groups": torch.tensor(self.groups),
        }


def average_coefficient_norm(rows: Rows, p: float) -> float:
    powers = rows.codes.astype(np.float64) ** p
    return powers.sum() / powers.max(axis=1).sum()


def objectives(rows: Rows) -> np.ndarray:
    squares = (rows.residual.astype(np.float64) ** 2).sum(axis=1)
    return squares + rows.lam * rows.codes.astype(np.float64).sum(axis=1)


def explained_variance(rows: Rows) -> float:
    residual, x = rows.residual.astype(np.float64), rows.x.astype(np.float64)
    return 1 - (residual**2).sum() / ((x - x.mean(axis=0)) ** 2).sum()


def score_sums(rows: Rows) -> np.ndarray:
    codes, residual, x = (array.astype(np.float64) for array in (rows.codes, rows.residual, rows.x))
    mean = x.mean(axis=0) if len(x) else np.zeros(WIDTH)
    each = {
        "rows": np.ones(len(codes)),
        "nonzeros": (codes != 0).sum(axis=1),
        "coefficients": codes.sum(axis=1),
        "maxima": codes.max(axis=1, initial=0),
        "objective": objectives(rows),
        "penalised_maxima": rows.lam * codes.max(axis=1, initial=0),
        "squared_residuals": (residual**2).sum(axis=1),
        "squared_distances": (x**2).sum(axis=1) - (mean**2).sum(),
        "bounds": rows.bound,
    }
    columns = [np.bincount(rows.groups, each[name], NUM_BUCKETS) for name in functional.SUM_COLUMNS]
    return np.stack(columns, axis=1)


def coefficient_histogram(rows: Rows) -> np.ndarray:
    ratios = (rows.codes / rows.lam[:, None])[rows.codes != 0]
    return np.histogram(ratios.clip(1e-3, 1e3), np.geomspace(1e-3, 1e3, 61))[0]


@dataclass(frozen=True)
class Case:
    """A metric, its functional form, what they take, and the answer in plain NumPy."""

    metric: Callable[[], Metric]
    function: Callable[..., Tensor]
    takes: tuple[str, ...]
    answer: Callable[[Rows], Any]
    is_sum: bool = False  # 0 without rows, where a score is NaN


CASES = {
    "nonzero_entries": Case(
        metrics.NonZeroEntries,
        functional.nonzero_entries,
        ("codes",),
        lambda rows: (rows.codes != 0).sum(axis=1).mean(),
    ),
    "sparse_coding_loss": Case(
        metrics.SparseCodingLoss,
        functional.sparse_coding_loss,
        ("codes", "residual", "lam"),
        lambda rows: objectives(rows).mean(),
    ),
    "average_coefficient_norm": Case(
        metrics.AverageCoefficientNorm,
        functional.average_coefficient_norm,
        ("codes",),
        lambda rows: average_coefficient_norm(rows, 1),
    ),
    "average_coefficient_norm_p": Case(
        lambda: metrics.AverageCoefficientNorm(p=2.5),
        lambda codes: functional.average_coefficient_norm(codes, p=2.5),
        ("codes",),
        lambda rows: average_coefficient_norm(rows, 2.5),
    ),
    "normalized_loss": Case(
        metrics.NormalizedLoss,
        functional.normalized_loss,
        ("codes", "residual", "lam"),
        lambda rows: objectives(rows).sum() / (rows.lam * rows.codes.astype(np.float64).max(axis=1)).sum(),
    ),
    "coding_gap": Case(
        metrics.CodingGap,
        functional.coding_gap,
        ("codes", "residual", "lam", "bound"),
        lambda rows: (objectives(rows).sum() - rows.bound.sum()) / rows.bound.sum(),
    ),
    "explained_variance": Case(
        metrics.ExplainedVariance,
        functional.explained_variance,
        ("residual", "x"),
        explained_variance,
    ),
    "mean_max_coefficient": Case(
        metrics.MeanMaxCoefficient,
        functional.mean_max_coefficient,
        ("codes",),
        lambda rows: rows.codes.astype(np.float64).max(axis=1).mean(),
    ),
    "atom_activity": Case(
        lambda: metrics.AtomActivity(NUM_ATOMS),
        functional.atom_activity,
        ("codes",),
        lambda rows: (rows.codes != 0).mean(axis=0),
    ),
    "coefficient_histogram": Case(
        metrics.CoefficientHistogram,
        functional.coefficient_histogram,
        ("codes", "lam"),
        coefficient_histogram,
        is_sum=True,
    ),
    "score_sums": Case(
        lambda: metrics.ScoreSums(NUM_BUCKETS, WIDTH),
        lambda **inputs: functional.score_sums(**inputs, num_buckets=NUM_BUCKETS),
        ("codes", "residual", "x", "lam", "groups", "bound"),
        score_sums,
        is_sum=True,
    ),
}


@pytest.fixture(scope="session")
def cases() -> dict[str, Case]:
    """All metrics of samples by name."""
    return CASES


@pytest.fixture(scope="session", params=CASES)
def case(request) -> Case:
    """Each metric of samples in turn."""
    return CASES[request.param]


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., Rows]:
    """Random rows: a fifth of the codes all zero, coefficients over five decades, penalties over two, x off centre."""

    def make(n: int, seed: int = 0, dtype: type = np.float32) -> Rows:
        rng = np.random.default_rng(seed)
        codes = 10 ** rng.uniform(-3, 2, (n, NUM_ATOMS)) * (rng.random((n, NUM_ATOMS)) < 0.4)
        codes[rng.random(n) < 0.2] = 0
        residual, x = rng.normal(0, 0.3, (n, WIDTH)), rng.normal(3, 1, (n, WIDTH))
        lam, bound = 10 ** rng.uniform(-1, 1, n), rng.uniform(0.01, 0.1, n)
        groups = rng.integers(0, NUM_BUCKETS - 1, n)  # the last bucket has no rows
        return Rows(codes.astype(dtype), residual.astype(dtype), x.astype(dtype), lam, bound, groups)

    return make


@pytest.fixture(scope="session")
def csr() -> Callable[[Tensor], Tensor]:
    """Dense codes to CSR, without PyTorch's warning."""
    return to_csr

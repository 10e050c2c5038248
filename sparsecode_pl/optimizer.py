"""The optimiser of the dictionary step."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparsecode_pl.utilities.arguments import check_arguments

# Weight of a new batch in the running means: lr / _LONGER, within these bounds.
_LONGER, _LEAST_SHARE, _MOST_SHARE = 2.0, 0.03, 0.5
# Lower bound on a coefficient's variance, as a share of its mean square.
_LEAST_VARIANCE = 0.05


class MeanFieldNewton(Optimizer):
    """Newton's method for the atoms, assuming that they are active independently of each other.

    With the codes fixed, the objective (arXiv 2310.07837, eq. 1) is quadratic in the atoms, with the Hessian
    2 C^T C / n for codes C (n, m). Its diagonal alone, the mean squares of the coefficients, gives steps that are too
    long where many atoms are active together. If atoms are active independently, the off-diagonal entries are the
    products of their mean coefficients. The Hessian is then a diagonal plus a matrix of rank one, and applying its
    inverse costs m d operations (Sherman and Morrison). Both moments are running means over batches. A step goes the
    share `lr` of the way to the minimum. The step of an atom that has long been silent is longer, up to two whole
    Newton steps. Atoms are assumed to be unit rows, and the component of the gradient along them is dropped.

    Call `observe` with the moments of each batch's codes before `step`; `SparseCodingModule` does so.

    Args:
        params: atoms, (m, d) each.
        lr: share of a Newton step to take, in (0, 1].

    Raises:
        ValueError: `lr` is out of its range.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.2) -> None:
        check_arguments(MeanFieldNewton.__init__, {"lr": lr})
        if not 0 < lr <= 1:
            raise ValueError(f"lr is {lr}: give a share of a Newton step in (0, 1], such as 0.2")
        super().__init__(params, {"lr": lr})
        self._observed: list[Tensor] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._observed = []

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of another `MeanFieldNewton`.

        Raises:
            ValueError: the state is that of a different optimiser.
        """
        # PyTorch's optimisers have a weight decay. Other entries may come from schedulers.
        foreign = any("weight_decay" in group for group in state_dict["param_groups"])
        if foreign or any("moments" not in entry for entry in state_dict["state"].values()):
            raise ValueError(
                "the checkpoint holds the state of an optimiser other than MeanFieldNewton: give the one it was made "
                "with, such as --model.optimizer=torch.optim.Adam --model.optimizer.lr=0.02"
            )
        super().load_state_dict(state_dict)

    def observe(self, moments: Tensor) -> None:
        """Record the curvature of a batch, before the step. If gradients accumulate, call it for each batch.

        Args:
            moments: mean over the samples of each atom's coefficients and of their squares, (2, m); see `moments_of`.
        """
        self._observed.append(moments)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the atoms. They are not normalised here.

        Raises:
            RuntimeError: no codes have been observed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for atoms in group["params"]:
                if atoms.grad is not None:
                    mean, square = self._moments(atoms, group["lr"])
                    atoms.add_(_newton(atoms, atoms.grad / 2, mean, square), alpha=-group["lr"])
        self._observed.clear()
        return loss

    def _moments(self, atoms: Tensor, rate: float) -> Tensor:
        """Running means of the coefficients and of their squares, (2, m)."""
        state = self.state[atoms]
        if self._observed:
            if not state:
                state["moments"], state["weight"] = torch.zeros_like(self._observed[0]), 0.0
            keep = 1 - min(_MOST_SHARE, max(_LEAST_SHARE, rate / _LONGER))
            state["moments"].mul_(keep).add_(torch.stack(self._observed).mean(0), alpha=1 - keep)
            state["weight"] = keep * state["weight"] + (1 - keep)
        if not state:
            raise RuntimeError(
                "MeanFieldNewton has observed no codes: call observe(moments_of(codes)) before each step"
            )
        moments: Tensor = state["moments"] / state["weight"]
        return moments


def _newton(atoms: Tensor, gradient: Tensor, mean: Tensor, square: Tensor) -> Tensor:
    """Solve H step = gradient for H = diag(variances) + mean mean^T."""
    gradient = gradient - (gradient * atoms).sum(1, keepdim=True) * atoms
    # An atom that is never active has a gradient of 0. This keeps its step from being 0 / 0.
    square = square + 1e-6 * square.mean(dtype=torch.float64).to(square.dtype) + torch.finfo(square.dtype).tiny
    variance = torch.maximum(square - mean.square(), _LEAST_VARIANCE * square)
    ratio = mean / variance
    # In float32 these sums over the atoms depend on the number of threads.
    overlap = (ratio.double() @ mean.double()).to(mean.dtype)
    along = (ratio.double() @ gradient.double()).to(gradient.dtype)
    return gradient / variance[:, None] - torch.outer(ratio, along) / (1 + overlap)


def moments_of(codes: Tensor) -> Tensor:
    """Mean coefficient and mean squared coefficient of each atom.

    Args:
        codes: sparse CSR, (n, m).

    Returns:
        (2, m).

    Example:
        >>> moments_of(torch.tensor([[0.0, 2.0], [1.0, 4.0]]).to_sparse_csr())
        tensor([[ 0.5000,  3.0000],
                [ 0.5000, 10.0000]])
    """
    return moment_sums(codes.col_indices(), codes.values(), codes.shape[1]) / len(codes)


def moment_sums(col: Tensor, values: Tensor, num_atoms: int) -> Tensor:
    """Sums of each atom's coefficients and of their squares, (2, m), from the entries of codes.

    Args:
        col: atoms, (nnz,) int64.
        values: coefficients, (nnz,).
        num_atoms: m.
    """
    sums = values.new_zeros(2, num_atoms)
    sums[0].index_add_(0, col, values)
    sums[1].index_add_(0, col, values.square())
    return sums

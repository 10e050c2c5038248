"""Codes as sparse CSR tensors, and back to activations."""

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

# PyTorch warns once per process that CSR tensors are in beta; let that once be here.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.zeros(1, 1).to_sparse_csr()


def csr_codes(crow: Tensor, col: Tensor, values: Tensor, num_atoms: int) -> Tensor:
    """Codes from the three parts of a CSR matrix.

    Args:
        crow: where each row begins in the other two, and their length at the end, (n + 1,) int64.
        col: atoms, ascending within a row, (nnz,) int64.
        values: coefficients, (nnz,).
        num_atoms: m.

    Returns:
        Sparse CSR tensor (n, m).
    """
    return torch.sparse_csr_tensor(crow, col, values, (len(crow) - 1, num_atoms), check_invariants=False)


def reconstruct(codes: Tensor, atoms: Tensor) -> Tensor:
    """The activations that codes stand for: `codes @ atoms`, differentiable in the atoms.

    Args:
        codes: sparse CSR, (n, m).
        atoms: (m, d).

    Returns:
        (n, d).

    Example:
        >>> codes = torch.tensor([[0.0, 2.0], [0.0, 0.0]]).to_sparse_csr()
        >>> reconstruct(codes, torch.eye(2))
        tensor([[0., 2.],
                [0., 0.]])
    """
    return _Reconstruction.apply(atoms, codes.crow_indices(), codes.col_indices(), codes.values())


class _Reconstruction(torch.autograd.Function):
    """`codes @ atoms`, whose gradient in the atoms, `codes.T @ gradient`, is of the same form.

    PyTorch's own backward of `embedding_bag` takes three times as long on the CPU.
    """

    @staticmethod
    def forward(ctx: Any, atoms: Tensor, crow: Tensor, col: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(crow, col, values)
        ctx.num_atoms = len(atoms)
        return _combine(crow, col, values, atoms)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        crow, col, values = ctx.saved_tensors
        row = torch.repeat_interleave(torch.arange(len(gradient), device=crow.device), crow.diff())
        return _combine(*transpose_parts(row, col, values, ctx.num_atoms), gradient), None, None, None


def transpose_parts(row: Tensor, col: Tensor, values: Tensor, num_cols: int) -> tuple[Tensor, Tensor, Tensor]:
    """CSR parts of the transpose of a matrix whose entries come row by row, (nnz,) each."""
    order = col.argsort(stable=True)
    crow = torch.zeros(num_cols + 1, dtype=torch.int64, device=col.device)
    crow[1:] = torch.bincount(col, minlength=num_cols).cumsum(0)
    return crow, row[order], values[order]


def _combine(crow: Tensor, col: Tensor, values: Tensor, rows: Tensor) -> Tensor:
    # About ten times as fast as the dense product at the densities met here.
    return embedding_bag(col, rows, crow, per_sample_weights=values, mode="sum", include_last_offset=True)

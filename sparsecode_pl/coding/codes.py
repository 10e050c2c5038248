"""Codes as sparse CSR tensors, and back to activations."""

import warnings

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from sparsecode_pl.utilities.arguments import check_arguments, check_tensor

# PyTorch warns once per process that CSR tensors are in beta. This uses up that warning.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.zeros(1, 1).to_sparse_csr()


def csr_codes(crow: Tensor, col: Tensor, values: Tensor, num_atoms: int) -> Tensor:
    """Codes from the three parts of a CSR matrix.

    Args:
        crow: where each row begins in the other two, and finally their length, (n + 1,) int64.
        col: atoms, ascending within a row, (nnz,) int64.
        values: coefficients, (nnz,).
        num_atoms: m.

    Returns:
        Sparse CSR tensor (n, m).

    Raises:
        ValueError: they are not the parts of a CSR matrix. On a GPU only shapes and dtypes are looked at.
    """
    check_arguments(csr_codes, locals())
    if num_atoms < 1:
        raise ValueError(f"num_atoms is {num_atoms}: give at least 1")
    on_cpu = isinstance(values, Tensor) and values.device.type == "cpu"  # on a GPU it would wait for the device
    try:
        return torch.sparse_csr_tensor(crow, col, values, (len(crow) - 1, num_atoms), check_invariants=on_cpu)
    except (RuntimeError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"crow, col and values are not the parts of a CSR matrix with {num_atoms} columns ({reason}): give row "
            "pointers (n + 1,), atoms (nnz,), ascending in each row, and coefficients (nnz,)"
        ) from error


def codes_of_entries(row: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Codes from their entries in any order.

    Args:
        row: samples, (nnz,) int64.
        col: atoms, (nnz,) int64; no entry may occur twice.
        values: coefficients, (nnz,).
        shape: n and m.

    Returns:
        Sparse CSR tensor (n, m).

    Example:
        >>> one, zero = torch.tensor([1]), torch.tensor([0])
        >>> codes_of_entries(one, zero, torch.tensor([3.0]), (2, 2)).to_dense()
        tensor([[0., 0.],
                [3., 0.]])
    """
    num_rows, num_atoms = shape
    order = (row * num_atoms + col).argsort()
    return csr_codes(row_pointers(row.bincount(minlength=num_rows)), col[order], values[order], num_atoms)


def row_pointers(counts: Tensor) -> Tensor:
    """Where each row of a CSR matrix begins, and the number of all entries at the end.

    Args:
        counts: entries of each row, (n,) int64.

    Returns:
        (n + 1,) int64.

    Example:
        >>> row_pointers(torch.tensor([2, 0, 1]))
        tensor([0, 2, 2, 3])
    """
    return torch.cat([counts.new_zeros(1), counts]).cumsum(0)


def rows_of_entries(crow: Tensor) -> Tensor:
    """The row of each entry of a CSR matrix, (nnz,) int64, from its row pointers (n + 1,).

    Example:
        >>> rows_of_entries(torch.tensor([0, 2, 2, 3]))
        tensor([0, 0, 2])
    """
    return torch.arange(len(crow) - 1, device=crow.device).repeat_interleave(crow.diff())


def reconstruct(codes: Tensor, atoms: Tensor) -> Tensor:
    """The reconstruction `codes @ atoms`, differentiable in the atoms.

    Args:
        codes: sparse CSR, (n, m).
        atoms: (m, d).

    Returns:
        (n, d).

    Raises:
        ValueError: codes are not sparse CSR, or codes and atoms differ in m, dtype or device.

    Example:
        >>> codes = torch.tensor([[0.0, 2.0], [0.0, 0.0]]).to_sparse_csr()
        >>> reconstruct(codes, torch.eye(2))
        tensor([[0., 2.],
                [0., 0.]])
    """
    check_tensor(codes, "codes", sparse=True, floating=True)
    check_tensor(atoms, "atoms", floating=True)
    if codes.layout != torch.sparse_csr or atoms.ndim != 2 or codes.shape[1] != len(atoms):
        raise ValueError(
            f"codes are {codes.layout} of shape {tuple(codes.shape)}, and atoms have shape {tuple(atoms.shape)}: give "
            "sparse CSR codes (n, m), such as codes.to_sparse_csr(), and atoms (m, d)"
        )
    if (codes.dtype, codes.device) != (atoms.dtype, atoms.device):
        raise ValueError(
            f"codes are {codes.dtype} on {codes.device}, but the atoms {atoms.dtype} on {atoms.device}: convert one of "
            "them"
        )
    return sum_weighted_rows(codes.crow_indices(), codes.col_indices(), codes.values(), atoms)


def transposed(crow: Tensor, col: Tensor, values: Tensor, num_cols: int) -> tuple[Tensor, Tensor, Tensor]:
    """The three parts of the transpose of a CSR matrix, from its own.

    Args:
        crow: where each row begins in the other two, and finally their length, (n + 1,) int64.
        col: columns, (nnz,) int64.
        values: values, (nnz,).
        num_cols: number of columns.
    """
    order = col.argsort(stable=True)
    return row_pointers(col.bincount(minlength=num_cols)), rows_of_entries(crow)[order], values[order]


def sum_weighted_rows(crow: Tensor, col: Tensor, values: Tensor, rows: Tensor) -> Tensor:
    """The product of a CSR matrix, given by its three parts, with `rows`, (n, d)."""
    # About ten times as fast as the dense product at the usual densities of codes.
    return embedding_bag(col, rows, crow, per_sample_weights=values, mode="sum", include_last_offset=True)

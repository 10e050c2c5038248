"""How well the learnt atoms match the true ones."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sparsecode_pl.utilities.arguments import check_arguments, check_tensor

#: Maximum bytes of cosines held at once.
_CHUNK_BYTES = 2**28


class AtomRecoveryScore(NamedTuple):
    """How well the learnt atoms match the true ones.

    Attributes:
        mean_max_cosine: mean over the true atoms of the largest cosine similarity with a learnt atom, 0-dim float64.
        fraction_above: share of the true atoms whose largest cosine similarity is above the threshold, 0-dim float64.
    """

    mean_max_cosine: Tensor
    fraction_above: Tensor


def _check_recovery(true_atoms: Tensor, threshold: float) -> None:
    check_arguments(_check_recovery, {"threshold": threshold})
    check_tensor(true_atoms, "true_atoms", floating=True)
    if true_atoms.ndim != 2 or true_atoms.numel() == 0:
        raise ValueError(f"true_atoms have shape {tuple(true_atoms.shape)}: give a matrix (f, d), one row per feature")
    norms = torch.linalg.vector_norm(true_atoms, dim=1)
    wrong = ~(norms > 0) | norms.isinf()  # negated, so that NaN is wrong too
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"true_atoms: {int(wrong.sum())} of {len(norms)} rows have no direction (first: row {row}, "
            f"norm {float(norms[row])}): drop them"
        )
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}: give a cosine similarity in [-1, 1], such as 0.9")


def _atom_recovery_update(true_atoms: Tensor, atoms: Tensor) -> Tensor:
    """Largest cosine similarity of each true atom with the learnt ones, (f,)."""
    check_tensor(atoms, "atoms", floating=True)
    if atoms.ndim != 2 or atoms.numel() == 0 or atoms.shape[1] != true_atoms.shape[1]:
        width = true_atoms.shape[1]
        raise ValueError(f"atoms have shape {tuple(atoms.shape)}, but true_atoms have width {width}: give (m, {width})")
    # Neither autocast nor TF32 reaches float64; they cannot distinguish cosines that differ by a few thousandths.
    dtype = torch.float64
    tiny = torch.finfo(dtype).tiny
    directions = normalize(atoms.to(dtype), eps=tiny).T
    chunk = max(1, _CHUNK_BYTES // (len(atoms) * dtype.itemsize))
    return torch.cat(
        [(normalize(part.to(dtype), eps=tiny) @ directions).amax(dim=1) for part in true_atoms.split(chunk)]
    )


def _atom_recovery_compute(cosines: Tensor, threshold: float) -> AtomRecoveryScore:
    return AtomRecoveryScore(cosines.mean(dtype=torch.float64), (cosines > threshold).mean(dtype=torch.float64))


def atom_recovery(true_atoms: Tensor, atoms: Tensor, threshold: float = 0.9) -> AtomRecoveryScore:
    """How well a planted dictionary was found: the best match of each true atom among the learnt atoms.

    Args:
        true_atoms: planted features, (f, d); rows of any length but 0.
        atoms: learnt atoms, (m, d); a row of zeros matches nothing.
        threshold: cosine similarity in [-1, 1] above which a feature counts as found.

    Returns:
        The mean of the largest cosine similarities, in [-1, 1], and the share above the threshold, in [0, 1].

    Raises:
        ValueError: the shapes do not fit, a true atom has no direction, or the threshold is out of its range.

    Example:
        >>> import torch
        >>> score = atom_recovery(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.8, 0.6]]))
        >>> score.mean_max_cosine  # (1 + 0.6) / 2
        tensor(0.8000, dtype=torch.float64)
        >>> score.fraction_above
        tensor(0.5000, dtype=torch.float64)
    """
    _check_recovery(true_atoms, threshold)
    return _atom_recovery_compute(_atom_recovery_update(true_atoms, atoms), threshold)

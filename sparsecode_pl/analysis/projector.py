"""Atoms in TensorBoard's projector."""

from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from sparsecode_pl.analysis.features import Features


def write_projector(folder: Path, atoms: Tensor, features: Features, tag: str = "atoms") -> None:
    """Write the atoms as an embedding for TensorBoard's projector, labelled by the tokens that they are most active on.

    Args:
        folder: a log folder, which `tensorboard --logdir` is given.
        atoms: (m, d).
        features: of these atoms.
        tag: name of the embedding.
    """
    labels = [_label(features, index) for index in range(len(atoms))]
    header = ["label", "token", "frequency"]
    with SummaryWriter(str(folder)) as writer:
        writer.add_embedding(atoms.detach().cpu(), metadata=labels, metadata_header=header, tag=tag)


def _label(features: Features, index: int) -> list[str]:
    """An atom's number and token, the token alone, and the atom's frequency, as cells of a table with tabs."""
    token = " ".join(repr(features.top_token(index) or "")[1:-1].split())
    frequency = int(features.count[index]) / max(1, features.num_rows)
    return [f"{index} {token}".strip(), token or "-", f"{frequency:.3g}"]

"""Atoms in TensorBoard's projector."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from sparsecode_pl.analysis.features import Features

# The projector shows no more points.
_MOST = 10_000


def write_projector(folder: Path, dictionaries: Mapping[str, tuple[Tensor, Features]]) -> None:
    """Write atoms as embeddings for TensorBoard's projector, labelled by the tokens that they are most active on.

    Of more than 10,000 atoms, those that are most often active are written.

    Args:
        folder: a log folder, which `tensorboard --logdir` is given.
        dictionaries: atoms, (m, d), and their features, by the name of the embedding.
    """
    header = ["label", "token", "frequency"]
    with SummaryWriter(str(folder)) as writer:
        for name, (atoms, features) in dictionaries.items():
            chosen = np.sort(np.argsort(-features.count, kind="stable")[:_MOST])
            labels = [_label(features, index) for index in chosen.tolist()]
            shown = atoms.detach().cpu()[torch.from_numpy(chosen)]
            writer.add_embedding(shown, metadata=labels, metadata_header=header, tag=name)


def _label(features: Features, index: int) -> list[str]:
    """An atom's number and token, the token alone, and the atom's frequency, as cells of a table with tabs."""
    token = " ".join(repr(features.top_token(index) or "")[1:-1].split())
    frequency = int(features.count[index]) / max(1, features.num_rows)
    return [f"{index} {token}".strip(), token or "-", f"{frequency:.3g}"]

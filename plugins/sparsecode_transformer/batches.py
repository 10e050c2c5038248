"""Padded batches of token sequences of similar length."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsecode_transformer.tokens import Sequences


@dataclass(frozen=True)
class Batch:
    """Sequences side by side, and which of their activations count.

    Attributes:
        input_ids: (b, s) int64, padded on the right.
        attention_mask: (b, s) int64, 0 at padding.
        places: index of each token in the flat arrays of the sequences, (b, s) int64; any at padding.
        kept: indices of the activations that count in the flattened (b * s), ascending, (k,) int64.
        columns: token_id, position (in the sequence), document and document_position of these, (k,) int32 each.
    """

    input_ids: Tensor
    attention_mask: Tensor
    places: Tensor
    kept: Tensor
    columns: dict[str, Tensor]


def chunks(kept: NDArray[np.int64], rows: int) -> list[tuple[int, int]]:
    """Divide sequences into consecutive runs with enough activations each.

    Args:
        kept: number of activations that count in each sequence, (sequences,).
        rows: least number of activations in each run except the last; at least 1.

    Returns:
        The runs as (first, last) with last excluded, each as short as possible.

    Raises:
        ValueError: `rows` is below 1.

    Example:
        >>> chunks(np.array([3, 1, 4, 1, 5]), 4)
        [(0, 2), (2, 3), (3, 5)]
    """
    if rows < 1:
        raise ValueError(f"rows is {rows}: give at least 1")
    totals = np.cumsum(kept)
    runs = []
    first = done = 0
    while first < len(kept):
        last = min(int(np.searchsorted(totals, done + rows)) + 1, len(kept))
        runs.append((first, last))
        first, done = last, int(totals[last - 1])
    return runs


def length_batches(
    sequences: Sequences, which: NDArray[np.int64], batch_tokens: int, pad_id: int = 0
) -> Iterator[Batch]:
    """Batches of sequences of similar length, the longest first, so that a lack of memory shows at once.

    Args:
        sequences: all sequences.
        which: the numbers of those wanted, in any order, (n,).
        batch_tokens: maximum number of tokens in a batch, padding included; a longer sequence is a batch of its own.
        pad_id: the padding token.
    """
    lengths = np.diff(sequences.starts)[which]
    order = np.argsort(-lengths, kind="stable")
    first = 0
    while first < len(order):
        last = first + max(1, batch_tokens // int(lengths[order[first]]))
        yield _batch(sequences, which[order[first:last]], pad_id)
        first = last


def _batch(sequences: Sequences, rows: NDArray[np.int64], pad_id: int) -> Batch:
    """A batch of the sequences of these numbers, of which the first is the longest."""
    starts = sequences.starts[rows]
    lengths = sequences.starts[rows + 1] - starts
    positions = np.arange(lengths[0])
    real = positions < lengths[:, None]
    places = np.where(real, starts[:, None] + positions, 0)
    input_ids = np.where(real, sequences.tokens[places], pad_id).astype(np.int64)
    kept = np.flatnonzero(real & sequences.keep[places])
    sources = places.ravel()[kept]
    columns = {
        "token_id": sequences.tokens[sources],
        "position": (kept % len(positions)).astype(np.int32),
        "document": sequences.document[sources],
        "document_position": sequences.document_position[sources],
    }
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=torch.from_numpy(real.astype(np.int64)),
        places=torch.from_numpy(places.astype(np.int64)),
        kept=torch.from_numpy(kept),
        columns={name: torch.from_numpy(column) for name, column in columns.items()},
    )

"""One forward pass over a text; a writer gets the activations at several layers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from torch import Tensor

from sparsecode_pl.data import Progress
from sparsecode_transformer.activation_capture import ActivationCapture
from sparsecode_transformer.batches import Batch, chunks, length_batches
from sparsecode_transformer.tokens import Sequences

COLUMNS = ("token_id", "position", "document", "document_position")
#: Number of tokens from which the usual norm of a layer is estimated.
_CALIBRATION = 4096


class Writer(Protocol):
    """Where activations go: `StoreWriter` or `MemoryWriter`."""

    @property
    def num_shards(self) -> int:
        """Finished shards."""

    @property
    def num_rows(self) -> int:
        """Rows of each layer in finished shards."""

    def append(self, rows: Mapping[str, Tensor], columns: Mapping[str, Tensor]) -> None:
        """Write rows of every layer, with their columns."""

    def end_shard(self) -> None:
        """Make what was appended durable."""

    def finish(self, **facts: object) -> None:
        """Mark the whole as complete."""


@dataclass(frozen=True)
class SequenceCapture:
    """Captures the activations of token sequences, those that count.

    Attributes:
        capture: hooks on a model.
        sequences: the text.
        batch_tokens: maximum number of tokens in a batch, padding included.
        pad_id: the padding token.
        max_norm_ratio: leave out tokens whose norm at any layer exceeds this multiple of the layer's median.
    """

    capture: ActivationCapture
    sequences: Sequences
    batch_tokens: int
    pad_id: int
    max_norm_ratio: float | None = None

    def rows(
        self, which: NDArray[np.int64], limits: Mapping[str, float] | None
    ) -> Iterator[tuple[Batch, dict[str, Tensor], dict[str, Tensor]]]:
        """Capture the activations of some sequences.

        Args:
            which: their numbers, (n,).
            limits: norm above which a token is left out, by layer; None leaves none out.

        Yields:
            Each batch, with rows (k, width) by layer and columns (k,) by name of the activations that count.
        """
        for batch in length_batches(self.sequences, which, self.batch_tokens, self.pad_id):
            captured = self.capture(batch.input_ids, batch.attention_mask)
            rows = {name: states.flatten(0, 1)[batch.kept] for name, states in captured.items()}
            columns = batch.columns
            if limits is not None:
                usual = within_limits(rows, limits)
                if not usual.all():
                    rows = {name: one[usual.to(one.device)] for name, one in rows.items()}
                    columns = {name: column[usual] for name, column in columns.items()}
            yield batch, rows, columns

    def limits(self) -> dict[str, float] | None:
        """The norms above which tokens are left out, from sequences spread over the text; None if none are left out."""
        if self.max_norm_ratio is None:
            return None
        share = max(1, int(self.sequences.kept().sum()) // _CALIBRATION)
        which = np.arange(0, len(self.sequences), share)
        norms: dict[str, list[Tensor]] = {}
        for _, rows, _ in self.rows(which, None):
            for name, one in rows.items():
                norms.setdefault(name, []).append(one.float().norm(dim=1).cpu())
        return {name: self.max_norm_ratio * float(torch.cat(each).nanmedian()) for name, each in norms.items()}


def within_limits(rows: Mapping[str, Tensor], limits: Mapping[str, float]) -> Tensor:
    """Which tokens have a norm within the limit at every layer, (k,) bool, given their rows by layer, (k, width)."""
    usual = torch.ones(len(next(iter(rows.values()))), dtype=torch.bool)
    for name, limit in limits.items():
        norms = rows[name].float().norm(dim=1)
        usual &= ((norms <= limit) | ~norms.isfinite()).cpu()  # NaN is no outlier: the writer refuses it
    return usual


def write_captured(
    sequences: SequenceCapture, writer: Writer, num_sequences: int, num_activations: int | None, shard_rows: int
) -> None:
    """Write the activations of the first sequences, continuing where the writer is.

    The sequences of a shard are captured in the order of their length. The activations that are kept are the first of
    the text all the same.

    Args:
        sequences: what is captured, and how.
        writer: where the activations go.
        num_sequences: how many sequences at most.
        num_activations: stop after this many, the first in the order of the text; None takes all.
        shard_rows: approximate number of activations in a shard.

    Raises:
        ValueError: an activation is NaN or infinite, or there are fewer of them than asked for.
    """
    limits = sequences.limits()
    kept = sequences.sequences.kept()[:num_sequences]
    shards = chunks(kept, shard_rows)
    first = shards[writer.num_shards - 1][1] if writer.num_shards else 0
    done = writer.num_rows
    dropped = int(kept[:first].sum()) - done
    if first:
        rank_zero_info(f"{done:,} activations of each layer are there already: continuing after them")
    lengths = np.diff(sequences.sequences.starts)[:num_sequences]
    with Progress("activations", int(lengths[first:].sum()), unit="tokens") as progress:
        for shard in shards[writer.num_shards :]:
            if done == num_activations:
                break
            before, (start, end) = done, shard
            while start < end and done != num_activations:
                left = None if num_activations is None else num_activations - done
                stop = start + _needed(kept[start:end], left)
                for batch, rows, columns in sequences.rows(np.arange(start, stop), limits):
                    writer.append(
                        {name: one[:left] for name, one in rows.items()},
                        {name: column[:left] for name, column in columns.items()},
                    )
                    found = len(columns["token_id"])
                    done += found if left is None else min(left, found)
                    dropped += len(batch.kept) - found
                    progress.advance(int(batch.attention_mask.sum()))
                start = stop
            if done == num_activations:
                break  # `finish` ends the shard
            if done == before and shard != shards[-1]:  # shards would be fewer than a resumed run expects
                raise ValueError(
                    f"max_norm_ratio is {sequences.max_norm_ratio}, which leaves out all tokens of a shard, sequences "
                    f"{shard[0]} to {shard[1] - 1}: raise it, or raise shard_rows, which is {shard_rows}"
                )
            writer.end_shard()
    if num_activations is not None and done < num_activations:
        raise ValueError(
            f"num_activations is {num_activations:,}, but of {done + dropped:,} tokens that count max_norm_ratio "
            f"{sequences.max_norm_ratio} leaves out {dropped:,}: raise it, or set num_activations to null"
            if dropped
            else too_few(num_activations, done)
        )
    facts: dict[str, object] = {}
    if limits is not None:
        facts = {"dropped_for_norm": dropped, "norm_limits": limits}
        captured = done + dropped
        rank_zero_info(
            f"max_norm_ratio is {sequences.max_norm_ratio:g}: {dropped:,} of {captured:,} tokens are left out "
            f"({dropped / captured:.2%})"
        )
    writer.finish(**facts)


def _needed(kept: NDArray[np.int64], left: int | None) -> int:
    """How many of the next sequences to capture together.

    They are those that are needed whole, even if no token is left out for its norm. If there is none, it is one
    sequence, of which the first activations are needed; a batch of one sequence is in the order of the text.

    Args:
        kept: number of activations that count in each of the sequences, (n,), n at least 1.
        left: how many activations are still wanted; None wants all.

    Example:
        >>> _needed(np.array([4, 4, 4]), 9), _needed(np.array([4]), 1), _needed(np.array([4, 4]), None)
        (2, 1, 2)
    """
    if left is None:
        return len(kept)
    return max(1, int(np.searchsorted(np.cumsum(kept), left, side="right")))


def too_few(wanted: int, found: int) -> str:
    """The message for a text that is too short."""
    return (
        f"num_activations is {wanted:,}, but the text gives {found:,} activations that count: give at most that many "
        "(null takes all there are), a longer text, or a larger max_documents"
    )

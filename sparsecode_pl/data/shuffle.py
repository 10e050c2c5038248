"""Random batches of a stream that arrives in order."""

from collections.abc import Iterator

import torch
from torch import Tensor

from sparsecode_pl.utilities.arguments import check_arguments


def shuffled_batches(
    blocks: Iterator[Tensor], batch_size: int, buffer_size: int, refill_share: float, random: torch.Generator
) -> Iterator[Tensor]:
    """Mix neighbouring rows of a stream through a buffer.

    The buffer is filled. Then rows are drawn from it at random until `refill_share` of them have left, and it is filled
    again. Each row of the stream leaves once. When the stream ends, the remaining rows leave too, except for an
    incomplete batch.

    Args:
        blocks: the stream, (k, d_model) each, any k.
        batch_size: rows in a batch.
        buffer_size: rows in the full buffer, at least `batch_size`.
        refill_share: share of the buffer that leaves between two fillings, in (0, 1]; a small share mixes better, a
            large one costs less.
        random: generator of the order.

    Yields:
        (batch_size, d_model).

    Raises:
        ValueError: a size or the share is out of its range; when the first batch is asked for.

    Example:
        >>> blocks = (torch.full((3, 1), float(number)) for number in range(4))
        >>> batches = shuffled_batches(blocks, 4, 8, 0.5, torch.Generator().manual_seed(0))
        >>> torch.cat(list(batches)).flatten().long().bincount()
        tensor([3, 3, 3, 3])
    """
    check_arguments(shuffled_batches, locals())
    if not 1 <= batch_size <= buffer_size:
        raise ValueError(
            f"batch_size is {batch_size} and buffer_size {buffer_size}: give 1 <= batch_size <= buffer_size"
        )
    if not 0 < refill_share <= 1:
        raise ValueError(f"refill_share is {refill_share}: give a share in (0, 1], such as 0.5")
    held: list[Tensor] = []
    ended = False
    while not ended:
        while sum(map(len, held)) < buffer_size and not ended:
            block = next(blocks, None)
            if block is None:
                ended = True
            else:
                held.append(block)
        if not held:
            return
        rows = torch.cat(held)
        buffer, later = (rows, rows[:0]) if ended else (rows[:buffer_size], rows[buffer_size:])
        buffer = buffer[torch.randperm(len(buffer), generator=random)]
        leaving = len(buffer) if ended else max(batch_size, int(refill_share * len(buffer)))
        leaving -= leaving % batch_size
        yield from buffer[:leaving].split(batch_size) if leaving else ()
        held = [buffer[leaving:], later]

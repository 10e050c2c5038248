"""Which rows are equal."""

from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from sparsecode_pl.data.rows import Rows, row_blocks

_BYTES = 16


def distinct_rows(rows: Rows) -> Tensor:
    """The class of each row, where rows of equal entries are one class.

    Rows are compared by a digest of 128 bits, so only one block of them is in memory at a time. 0.0 and -0.0 count as
    equal.

    Args:
        rows: all rows, (n, d_model).

    Returns:
        The number of each row's class, counted from 0 in the order of first appearance, (n,) int64.

    Example:
        >>> distinct_rows(torch.tensor([[5.0, 1.0], [2.0, 3.0], [5.0, 1.0], [0.0, 0.0], [-0.0, 0.0]]))
        tensor([0, 1, 0, 2, 2])
    """
    digests = bytearray()
    for block in row_blocks(rows):
        for row in (block.detach() + 0.0).contiguous().numpy():  # turns -0.0 into 0.0
            digests += blake2b(row, digest_size=_BYTES).digest()
    keys = np.frombuffer(digests, dtype=f"S{_BYTES}")
    _, first, classes = np.unique(keys, return_index=True, return_inverse=True)
    return torch.from_numpy(first.argsort().argsort()[classes])

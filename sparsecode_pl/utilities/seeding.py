"""Random generators that depend only on a seed and a position, so that nothing has to be saved to resume."""

from numbers import Integral

import numpy as np
import torch


def generator(*key: int) -> torch.Generator:
    """A CPU generator seeded by a key of non-negative integers; different keys give unrelated draws.

    Raises:
        ValueError: a part of the key is no integer of at least 0.

    Example:
        >>> torch.rand(1, generator=generator(0, 7)) == torch.rand(1, generator=generator(0, 7))
        tensor([True])
    """
    for part in key:
        if not isinstance(part, Integral) or isinstance(part, bool) or part < 0:
            raise ValueError(f"seed is {key[0] if len(key) == 1 else key!r}: give integers of at least 0")
    # A spawn key is used, because trailing zeros in plain entropy would make no difference.
    seed = np.random.SeedSequence(key[0], spawn_key=key[1:]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed >> np.uint64(1)))

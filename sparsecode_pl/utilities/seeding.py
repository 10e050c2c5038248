"""Random generators that depend only on a seed and a position, so that nothing has to be saved to resume."""

import numpy as np
import torch


def generator(*key: int) -> torch.Generator:
    """A CPU generator seeded by a key of non-negative integers; different keys give unrelated draws.

    Example:
        >>> torch.rand(1, generator=generator(0, 7)) == torch.rand(1, generator=generator(0, 7))
        tensor([True])
    """
    # A spawn key is used, because trailing zeros in plain entropy would make no difference.
    seed = np.random.SeedSequence(key[0], spawn_key=key[1:]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed >> np.uint64(1)))

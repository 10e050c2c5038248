"""Random generators that are a pure function of a seed and a place, so that nothing has to be saved to resume."""

import numpy as np
import torch


def generator(*key: int) -> torch.Generator:
    """A CPU generator seeded by a key of non-negative integers; unequal keys give unrelated draws.

    Example:
        >>> torch.rand(1, generator=generator(0, 7)) == torch.rand(1, generator=generator(0, 7))
        tensor([True])
    """
    # A spawn key, for trailing zeros of plain entropy make no difference to it.
    seed = np.random.SeedSequence(key[0], spawn_key=key[1:]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed >> np.uint64(1)))

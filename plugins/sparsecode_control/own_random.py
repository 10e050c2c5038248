"""Random numbers that a control does not share with its source."""

from zlib import crc32

import torch

from sparsecode_pl.data import ControlActivations, generator


def own_random(control: ControlActivations, random: torch.Generator) -> torch.Generator:
    """A generator of the control's own, a function of the next draw of `random` and of the control's class.

    A control and its source usually have the same seed, and hence the same `random`. Were both to draw from it, their
    rows would be functions of the same numbers.
    """
    seed = int(torch.randint(2**62, (), generator=random))
    return generator(seed, crc32(type(control).__name__.encode()), 1 if control.source is None else 2)

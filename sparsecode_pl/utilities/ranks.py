"""Work that one process does for all."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed

T = TypeVar("T")


def is_shared() -> bool:
    """Whether several processes work together, so that none may go on alone."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return ready and torch.distributed.get_world_size() > 1


def rank() -> int:
    """The number of this process, 0 if it works alone."""
    return torch.distributed.get_rank() if is_shared() else 0


def num_ranks() -> int:
    """How many processes work together, 1 if this one works alone."""
    return torch.distributed.get_world_size() if is_shared() else 1


def from_all_ranks(value: T) -> list[T]:
    """The values of all processes, by their numbers, on every process. Each of them must call this."""
    if not is_shared():
        return [value]
    found: list[Any] = [None] * num_ranks()
    torch.distributed.all_gather_object(found, value)
    return found


def from_rank_zero(compute: Callable[[], T]) -> T:
    """Call `compute` on the first process and return its result on every process; the others wait.

    This is for numbers that decide what happens next, because they must not differ between processes even in the last
    digit. An exception is raised on every process.
    """
    if not is_shared():
        return compute()
    outcome: list[Any] = [None, None]
    if torch.distributed.get_rank() == 0:
        try:
            outcome[0] = compute()
        except Exception as error:  # otherwise the others would wait for ever
            outcome[1] = error
    torch.distributed.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result

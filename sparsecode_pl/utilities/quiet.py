"""Lightning's remarks that say nothing to a user of this project."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import Filter, LogRecord, getLogger

# How remarks begin that are the same at each of many fits.
_DEVICES = ("GPU available", "TPU available", "HPU available", "LOCAL_RANK:", "You are using a CUDA device", "Using ")
# How remarks begin that say no more than the progress does.
_ROUTINE = ("`Trainer.fit` stopped", "lam has settled")
_LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero", "lightning.pytorch")


def quiet_lightning() -> None:
    """Silence an advertisement and two warnings for good, and let remarks about devices through once."""
    for name in _LOGGERS:
        getLogger(name).addFilter(_Once())
    _ignore_warnings()


@contextmanager
def quiet_fits() -> Iterator[None]:
    """For many fits, let remarks about devices through once, and routine ones not at all; undone at the end."""
    filters = [(getLogger(name), _Once(_ROUTINE)) for name in _LOGGERS]
    for logger, once in filters:
        logger.addFilter(once)
    try:
        with warnings.catch_warnings():
            _ignore_warnings()
            yield
    finally:
        for logger, once in filters:
            logger.removeFilter(once)


class _Once(Filter):
    """Lets remarks about devices through once, and advertisements never.

    Args:
        never: how other remarks begin that are not let through.
    """

    def __init__(self, never: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._never = never
        self._told: set[str] = set()

    def filter(self, record: LogRecord) -> bool:
        message = record.getMessage()
        if "For seamless cloud" in message or message.startswith(self._never):
            return False
        if message.startswith(_DEVICES):
            if message in self._told:
                return False
            self._told.add(message)
        return True


def _ignore_warnings() -> None:
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec")
    warnings.filterwarnings("ignore", message=".*configure_optimizers` returned `None`")

"""Silences messages of Lightning that do not concern users of this package."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import Filter, LogRecord, getLogger

# Beginnings of messages that are the same at each of many fits.
_DEVICES = ("GPU available", "TPU available", "HPU available", "LOCAL_RANK:", "You are using a CUDA device", "Using ")
# Beginnings of messages that the progress display makes redundant.
_ROUTINE = ("`Trainer.fit` stopped", "lam has settled")
_LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero", "lightning.pytorch")


def quiet_lightning() -> None:
    """Silence an advertisement and two warnings for good, and show each message about devices once."""
    for name in _LOGGERS:
        if not any(isinstance(each, _Once) for each in getLogger(name).filters):
            getLogger(name).addFilter(_Once())
    _ignore_warnings()


@contextmanager
def quiet_fits() -> Iterator[None]:
    """During many fits, show each message about devices once, and routine messages never."""
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
    """Shows each message about devices once, and advertisements never.

    Args:
        never: beginnings of other messages that are never shown.
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

"""Silences messages of Lightning that do not concern users of this package."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Beginnings of messages that are the same at each of many fits.
_DEVICES = ("GPU available", "TPU available", "HPU available", "LOCAL_RANK:", "You are using a CUDA device", "Using ")
# Beginnings of messages that the progress display makes redundant.
_ROUTINE = ("`Trainer.fit` stopped", "lam has settled")
_LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero", "lightning.pytorch")


def quiet_lightning() -> None:
    """Silence an advertisement, a warning about PyTorch's internals, and the one that there is no optimiser."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_is_no_advertisement)
    _ignore_warnings()


@contextmanager
def quiet_fits() -> Iterator[None]:
    """During many fits, show each message about devices once, and routine messages never."""
    told: set[str] = set()

    def passes(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if message.startswith(_ROUTINE) or (message.startswith(_DEVICES) and message in told):
            return False
        told.add(message)
        return _is_no_advertisement(record)

    for name in _LOGGERS:
        logging.getLogger(name).addFilter(passes)
    try:
        with warnings.catch_warnings():
            _ignore_warnings()
            yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(passes)


def _ignore_warnings() -> None:
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec")
    warnings.filterwarnings("ignore", message=".*configure_optimizers` returned `None`")


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "For seamless cloud" not in record.getMessage()

"""Lightning's remarks that say nothing to a user of this project."""

import logging
import warnings


def quiet_lightning() -> None:
    """Silence an advertisement, a warning about PyTorch's internals, and one that a dictionary is not learnt."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec")
    warnings.filterwarnings("ignore", message=".*configure_optimizers` returned `None`")


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "For seamless cloud" not in record.getMessage()

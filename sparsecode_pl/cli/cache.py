"""`sparsecode cache`."""

import sys

from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]  # its list is made at run time
from lightning.pytorch.utilities import rank_zero_info

from sparsecode_pl.cli.lightning import SparseCodingParser
from sparsecode_pl.data import ActivationDataModule, fill_store, import_plugins


def parser() -> ArgumentParser:
    """The parser of the command."""
    made = SparseCodingParser(
        prog="sparsecode cache",
        description="Keep the activations of a model's layers on disk, computed in one pass over a text. "
        "To resume after an interruption, run the same command again.",
    )
    made.add_argument("-c", "--config", action=ActionConfigFile, help="Path to a configuration file.")
    made.add_subclass_arguments(ActivationDataModule, "data", required=True)
    return made


def run(words: list[str]) -> None:
    """Fill an activation store, which `--data ActivationStore` then reads."""
    import_plugins()  # so that their short names are known
    made = parser()
    config = made.parse_args(words)
    try:
        path = fill_store(made.instantiate_classes(config).data)
    except (OSError, TypeError, ValueError) as error:
        made.error(str(error), error)
    except KeyboardInterrupt:
        sys.exit("interrupted: the finished shards are safe; run the same command again to resume")
    rank_zero_info(f"Store: {path}\nRead:  sparsecode measure --data ActivationStore --data.path {path}")

"""`sparsecode export`."""

from jsonargparse import ArgumentParser
from lightning.pytorch.utilities import rank_zero_info

from sparsecode_pl.dictionary import Dictionary


def parser() -> ArgumentParser:
    """The parser of the command."""
    made = ArgumentParser(
        prog="sparsecode export",
        description="Make a folder that Dictionary.from_pretrained reads from a checkpoint of `sparsecode fit`.",
    )
    made.add_argument("checkpoint", type=str, help="The checkpoint, lightning_logs/.../checkpoints/*.ckpt.")
    made.add_argument("folder", type=str, help="The folder to write.")
    return made


def run(words: list[str]) -> None:
    """Write the dictionary of a checkpoint to a folder."""
    made = parser()
    config = made.parse_args(words)
    try:
        Dictionary.from_checkpoint(config.checkpoint).save_pretrained(config.folder)
    except (OSError, ValueError) as error:
        made.error(str(error), error)
    rank_zero_info(f'Read it by Dictionary.from_pretrained("{config.folder}")')

"""`sparsecode report`."""

from jsonargparse import ArgumentParser

from sparsecode_pl.measurement import report


def parser() -> ArgumentParser:
    """The parser of the command."""
    made = ArgumentParser(
        prog="sparsecode report", description="Draw the table, the picture and the files of a run again."
    )
    made.add_argument("run", type=str, help="Folder of a run of `sparsecode measure`.")
    return made


def run(words: list[str]) -> None:
    """Draw them from the run's records alone."""
    made = parser()
    config = made.parse_args(words)
    try:
        report(config.run)
    except (OSError, ValueError) as error:
        made.error(str(error), error)

"""`sparsecode plugins`."""

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table

from sparsecode_pl.data import import_plugins


def parser() -> ArgumentParser:
    """The parser of the command, which takes no arguments."""
    return ArgumentParser(prog="sparsecode plugins", description="List the data and controls that can be measured.")


def run(words: list[str]) -> None:
    """Print the installed plugins, with a line each."""
    parser().parse_args(words)
    table = Table("plugin", "data", "package", title="Installed data plugins")
    for name, cls in import_plugins().items():
        table.add_row(name, (cls.__doc__ or "").strip().splitlines()[0], cls.__module__.partition(".")[0])
    Console().print(table)

"""`sparsecode plugins`."""

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from sparsecode_pl.data import import_plugins
from sparsecode_pl.data.registry import plugin_kind


def parser() -> ArgumentParser:
    """The parser of the command, which takes no arguments."""
    return ArgumentParser(prog="sparsecode plugins", description="List the data and controls that can be measured.")


def run(words: list[str]) -> None:
    """List the installed data and controls, with a sentence each; for controls another on what they rule out."""
    parser().parse_args(words)
    console = Console()
    for name, cls in import_plugins().items():
        sentence = (cls.__doc__ or "").strip().partition("\n")[0]
        package = cls.__module__.partition(".")[0]
        console.print(f"[bold]{name}[/bold]  ({plugin_kind(name)}; {package})", highlight=False)
        for line in filter(None, (sentence, cls.rules_out)):
            console.print(Padding(escape(line), (0, 0, 0, 4)), highlight=False)

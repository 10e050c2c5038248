"""`sparsecode features --token`: tables of single tokens."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sparsecode_pl.analysis.pages import write_token_tables
from sparsecode_pl.analysis.token_table import TokenTable, token_tables
from sparsecode_pl.data import ActivationDataModule
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.utilities.files import write_file


def show_tokens(
    dictionary: Dictionary, data: ActivationDataModule, words: Sequence[str], top: int, examples: int, output: Path
) -> None:
    """Print the tables of some tokens, and write them as `tokens.json` and `tokens.html`.

    Args:
        dictionary: the dictionary.
        data: its rows.
        words: the tokens.
        top: features of each.
        examples: tokens of each feature, and neighbours.
        output: folder of the files.
    """
    tables = token_tables(dictionary, data, words, top=top, examples=examples)
    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in tables:
        console.print(_table(table), markup=False)
    content = {"data": data.label, "lam": dictionary.lam, "tables": [table.plain() for table in tables]}
    page = write_token_tables(output, data.label, tables)
    write_file(output / "tokens.json", (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    rank_zero_info(f"Tables: {page.resolve()} and tokens.json beside it")


def _table(table: TokenTable) -> Table:
    """The features of a token in columns, and its nearest neighbours in the last one."""
    drawn = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        title=Text(f"Features of {table.token.strip()!r}, over all rows"),
        title_style="bold",
    )
    columns = []
    for feature in table.features:
        drawn.add_column(Text(f"atom {feature.atom}\ncoefficient {feature.value:.3g}"), overflow="fold")
        columns.append([f"{token.strip()}  {value:.3g}" for token, value in feature.tokens])
    drawn.add_column(Text("nearest neighbours\ncosine"), overflow="fold", style="dim")
    columns.append([f"{token.strip()}  {value:.3g}" for token, value in table.neighbours])
    for row in range(max(map(len, columns))):
        drawn.add_row(*(Text(column[row]) if row < len(column) else "" for column in columns))
    return drawn

"""The page of token tables."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from sparsecode_pl.analysis.pages import folder as folders
from sparsecode_pl.analysis.pages.environment import environment
from sparsecode_pl.analysis.token_table import TokenTable
from sparsecode_pl.utilities.files import write_file


def write_token_tables(folder: str | Path, label: str, tables: Sequence[TokenTable]) -> Path:
    """Write the tables of some tokens as `tokens.html`, which opens from disk. Other pages in the folder stay.

    Args:
        folder: made if need be.
        label: the data's name.
        tables: one for each token.

    Returns:
        The page.

    Raises:
        FileExistsError: the folder holds something else than pages.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    folders.claim(folder, f"Tokens of {label}")
    write_file(folder / "pages.css", files(__package__).joinpath("static", "pages.css").read_bytes())
    page = environment().get_template("tokens.html").render(up="", label=label, tables=tables)
    path = folder / folders.TOKENS
    write_file(path, page.encode("utf-8", errors="replace"))
    return path

"""Pages of a dictionary's atoms: HTML that opens from disk, without a network."""

from sparsecode_pl.analysis.pages.folder import check_folder
from sparsecode_pl.analysis.pages.subject import AtomSource, Subject
from sparsecode_pl.analysis.pages.tokens import write_token_tables
from sparsecode_pl.analysis.pages.writer import write_pages

__all__ = ["AtomSource", "Subject", "check_folder", "write_pages", "write_token_tables"]

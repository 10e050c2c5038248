"""The `sparsecode` command: a file for each of its commands, and one for those of LightningCLI."""

from sparsecode_pl.cli.main import main

__all__ = ["main"]

"""`python -m sparsecode_pl.cli` is `sparsecode`."""

from sparsecode_pl.cli.main import main

if __name__ == "__main__":
    main()

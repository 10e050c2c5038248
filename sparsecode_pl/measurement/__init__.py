"""Measure data beside its controls: fit each, then one table, one picture, and files with the numbers."""

from sparsecode_pl.measurement.run import measure

__all__ = ["measure"]

"""Measure data beside its controls: fit each, then one table, one picture, and files with the numbers."""

from sparsecode_pl.measurement.co_activity import CoActivity
from sparsecode_pl.measurement.exact import ExactCodes
from sparsecode_pl.measurement.record import Fit, Record, Results, load_results
from sparsecode_pl.measurement.report import report
from sparsecode_pl.measurement.run import MeasurementError, measure

__all__ = [
    "CoActivity",
    "ExactCodes",
    "Fit",
    "MeasurementError",
    "Record",
    "Results",
    "load_results",
    "measure",
    "report",
]

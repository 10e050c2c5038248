"""Figures of the codes for TensorBoard."""

from typing import Any

import numpy as np
from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsecode_pl.data import ROWS
from sparsecode_pl.metrics import CoefficientHistogram
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.utilities.arguments import check_arguments


class TensorBoardFigures(Callback):
    """Draw the distribution of the coefficients and the atoms' frequencies after every scoring.

    Args:
        num_bins: bins of the histogram, logarithmic from a thousandth of lam to a thousand times lam.
    """

    def __init__(self, num_bins: int = 90) -> None:
        check_arguments(TensorBoardFigures.__init__, locals())
        if num_bins < 1:
            raise ValueError(f"num_bins is {num_bins}: give at least 1")
        self.num_bins = num_bins
        self._histograms: list[CoefficientHistogram] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: SparseCodingModule) -> None:  # type: ignore[override]
        """Start empty histograms."""
        self._histograms = [
            CoefficientHistogram(self.num_bins).to(pl_module.device) for _ in trainer.val_dataloaders or ()
        ]

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count the coefficients of a batch."""
        self._histograms[dataloader_idx].update(codes=outputs["codes"], lam=outputs["lam"])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: SparseCodingModule) -> None:  # type: ignore[override]
        """Compute on all ranks, draw on the first."""
        kinds = zip(pl_module.data.row_sets, self._histograms, strict=True)
        counts = {rows: metric.compute().cpu().numpy() for rows, metric in kinds}
        frequencies = pl_module.activity.compute().cpu().numpy()
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                draw = logger.experiment.add_figure
                step = max(0, trainer.global_step - 1)  # that of the scores
                draw("coefficients", coefficient_figure(counts, self._histograms[0].edges.cpu().numpy()), step)
                draw("atom_frequencies", frequency_figure(frequencies), step)


def coefficient_figure(counts: dict[str, np.ndarray], edges: np.ndarray) -> Figure:
    """Histogram of the non-zero coefficients over lam.

    Args:
        counts: for each kind of rows ("train", "heldout", "unseen"), the counts of the bins, (num_bins,).
        edges: edges of the bins, (num_bins + 1,), in units of lam.
    """
    figure, axes = _figure()
    width = np.diff(np.log10(edges))
    for rows, count in counts.items():
        axes.stairs(count / max(count.sum(), 1) / width, edges, label=ROWS[rows], linewidth=1.5)
    used = np.flatnonzero(sum(counts.values()))
    if len(used):  # if all codes are zero, a logarithmic axis cannot be drawn
        axes.set(xscale="log", xlim=(edges[used[0]], edges[used[-1] + 1]))
    axes.set(xlabel="coefficient / lam", ylabel="density per decade", title="Non-zero coefficients")
    axes.legend(frameon=False)
    return figure


def frequency_figure(frequencies: np.ndarray) -> Figure:
    """Sorted frequencies of the atoms over the training rows.

    Args:
        frequencies: share of the rows that use each atom, (m,).
    """
    figure, axes = _figure()
    alive = np.sort(frequencies[frequencies > 0])[::-1]
    axes.plot(np.arange(1, len(alive) + 1), alive, linewidth=1.5)
    if len(alive):
        axes.set(xscale="log", yscale="log")
    axes.set(
        xlabel="atom, by frequency",
        ylabel="share of training rows that use it",
        title=f"{len(alive):,} of {len(frequencies):,} atoms are used",
    )
    return figure


def _figure() -> tuple[Figure, Axes]:
    # A bare Figure has no window and no pyplot state, so there is nothing to close.
    figure = Figure(figsize=(4.8, 3.4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes

import warnings
from io import BytesIO

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparsecode_pl.callbacks import AdaptivePenalty, TensorBoardFigures, tensorboard_figures
from sparsecode_pl.callbacks.tensorboard_figures import coefficient_figure, frequency_figure
from sparsecode_pl.data import SourceActivations, TensorSource
from sparsecode_pl.module import SparseCodingModule

SCORES = {"S1", "L_norm", "N0", "L", "explained_variance"}


@pytest.fixture
def logged(data, fit, tmp_path):
    """Fits with TensorBoard, and returns the trainer and what TensorBoard will show."""

    def logged(module, *callbacks, data=data, **settings):
        logger = TensorBoardLogger(tmp_path, name="run", version=0, default_hp_metric=False)
        trainer = fit(module, data, *callbacks, logger=logger, **settings)
        return trainer, EventAccumulator(
            str(tmp_path / "run" / "version_0"), size_guidance={"scalars": 0, "images": 0}
        ).Reload()

    return logged


def picture(figure):
    """What a figure looks like, drawn without any complaint."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(buffer := BytesIO())
    return Image.open(buffer)


def test_two_figures_are_drawn_after_every_round(logged):
    trainer, events = logged(SparseCodingModule(16, expansion=2), AdaptivePenalty(tolerance=1e-9), TensorBoardFigures())
    assert set(events.Tags()["images"]) == {"coefficients", "atom_frequencies"}
    for tag in events.Tags()["images"]:
        images = events.Images(tag)
        assert [image.step for image in images] == [11, 23]
        width, height = Image.open(BytesIO(images[-1].encoded_image_string)).size
        assert width > 400
        assert height > 250
    assert trainer.current_epoch == 2


@pytest.mark.filterwarnings("ignore:.*lam is too large")
@pytest.mark.parametrize("val_split", [0.1, 0])
def test_figures_of_no_codes_are_drawn_too(logged, data, val_split):
    data.val_split = val_split
    _, events = logged(SparseCodingModule(16, expansion=2, lam=1000.0), TensorBoardFigures())
    assert set(events.Tags()["images"]) == {"coefficients", "atom_frequencies"}


def test_nothing_is_drawn_in_a_sanity_check(logged):
    _, events = logged(SparseCodingModule(16, expansion=2, lam=0.1), TensorBoardFigures(), num_sanity_val_steps=2)
    assert [image.step for image in events.Images("coefficients")] == [11]


def test_curves_of_batches_and_rounds_are_logged(logged):
    trainer, events = logged(SparseCodingModule(16, expansion=2), AdaptivePenalty(tolerance=1e-9), log_every_n_steps=4)
    curves = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    of_batches = {"lam", "batch/gradient_norm"} | {f"batch/{name}" for name in SCORES}
    of_rounds = {"train/dead_atoms"} | {f"{rows}/{name}" for rows in ("train", "heldout") for name in SCORES}
    assert curves.keys() >= of_batches | of_rounds
    for tag in of_batches:
        assert [point.step for point in curves[tag]] == [3, 7, 11, 15, 19, 23], tag
    for tag in of_rounds:
        assert len(curves[tag]) == 2, tag
        assert curves[tag][-1].value == pytest.approx(float(trainer.callback_metrics[tag]), rel=1e-6)
    assert all(np.isfinite(point.value) for curve in curves.values() for point in curve)


def test_the_logged_penalty_is_the_one_in_use(logged):
    _, events = logged(SparseCodingModule(16, expansion=2, lam=0.1), log_every_n_steps=1)
    expected = [*np.linspace(0.3, 0.1, 6, endpoint=False), *[0.1] * 6]
    np.testing.assert_allclose([point.value for point in events.Scalars("lam")], expected, rtol=1e-6)


def test_unseen_tokens_have_curves_and_a_place_in_the_figure(logged, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        tensorboard_figures, "coefficient_figure", lambda *what: drawn.append(what) or coefficient_figure(*what)
    )
    rows = torch.randn(800, 16, generator=torch.Generator().manual_seed(0))
    columns = {"token_id": torch.arange(800) % 40, "document": torch.arange(800) // 20}
    text = SourceActivations(TensorSource(rows, columns=columns), batch_size=128, batches_per_round=3)
    trainer, events = logged(SparseCodingModule(16, expansion=2, lam=0.5), TensorBoardFigures(), data=text)
    for name in SCORES:
        (point,) = events.Scalars(f"unseen/{name}")
        assert point.value == pytest.approx(float(trainer.callback_metrics[f"unseen/{name}"]), rel=1e-6)
    assert len(events.Images("coefficients")) == 1
    ((counts, _),) = drawn
    assert list(counts) == ["train", "heldout", "unseen"]
    module = trainer.lightning_module
    for kind, index in text.row_sets.items():
        assert counts[kind].sum() == module(rows[index]).values().numel()


EDGES = np.logspace(-3, 3, 13)


def test_the_histogram_is_a_density_in_decades():
    train, heldout, unseen = np.zeros(12), np.zeros(12), np.zeros(12)
    train[4:8], heldout[5], unseen[6] = [1, 5, 3, 1], 7, 2
    figure = coefficient_figure({"train": train, "heldout": heldout, "unseen": unseen}, EDGES)
    axes = figure.axes[0]
    steps = {patch.get_label(): patch.get_data() for patch in axes.patches}
    assert set(steps) == {"training rows", "held-out rows", "unseen tokens"}
    for values, edges, _ in steps.values():
        assert (values * np.diff(np.log10(edges))).sum() == pytest.approx(1)
    assert np.argmax(steps["training rows"].values) == 5
    assert axes.get_xlim() == pytest.approx((EDGES[4], EDGES[8]))  # the bins in use
    assert picture(figure).width > 400


@pytest.mark.parametrize("counts", [{"train": np.zeros(12)}, {"train": np.zeros(12), "heldout": np.zeros(12)}])
def test_a_histogram_of_nothing_is_drawn(counts):
    assert picture(coefficient_figure(counts, EDGES)).width > 400


def test_frequencies_are_sorted_and_dead_atoms_left_out():
    figure = frequency_figure(np.array([0.1, 0, 0.5, 0.3, 0]))
    x, y = figure.axes[0].lines[0].get_data()
    assert list(x) == [1, 2, 3]
    assert list(y) == [0.5, 0.3, 0.1]
    assert "3 of 5 atoms" in figure.axes[0].get_title()
    assert picture(figure).width > 400


def test_frequencies_of_dead_atoms_are_drawn():
    figure = frequency_figure(np.zeros(4))
    assert "0 of 4 atoms" in figure.axes[0].get_title()
    assert picture(figure).width > 400

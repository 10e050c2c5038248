import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from sparsecode_pl.callbacks import AdaptivePenalty, TensorBoardHParams
from sparsecode_pl.module import SparseCodingModule

SCORES = {
    f"{rows}/{name}" for rows in ("train", "heldout") for name in ("S1", "L_norm", "N0", "L", "explained_variance")
}


@pytest.fixture
def run(data, fit, tmp_path):
    """A finished run's trainer, and what TensorBoard will show of it."""
    logger = TensorBoardLogger(tmp_path, name="run", version=0, default_hp_metric=False)
    module = SparseCodingModule(16, expansion=3, scale=True, seed=5)
    trainer = fit(module, data, AdaptivePenalty(tolerance=1e-9), TensorBoardHParams(), logger=logger)
    return trainer, EventAccumulator(str(tmp_path / "run" / "version_0"), size_guidance={"scalars": 0}).Reload()


def plugin_data(events, tag):
    return HParamsPluginData.FromString(events.summary_metadata[tag].plugin_data.content)


def test_settings_stand_beside_the_final_scores(run):
    trainer, events = run
    session = plugin_data(events, "_hparams_/session_start_info").session_start_info
    numbers = {name: value.number_value for name, value in session.hparams.items() if value.HasField("number_value")}
    assert numbers.items() >= {"expansion": 3, "num_atoms": 48, "seed": 5, "scale": 1, "batch_size": 128}.items()
    assert session.hparams["data"].string_value == "SparseLinear a=1.5"
    experiment = plugin_data(events, "_hparams_/experiment").experiment
    assert {info.name.tag for info in experiment.metric_infos} >= SCORES
    for tag in SCORES:
        assert events.Scalars(tag)[-1].value == pytest.approx(float(trainer.callback_metrics[tag]), rel=1e-6)


def test_the_final_scores_do_not_spoil_the_curves(run):
    _, events = run
    for tag in SCORES:
        steps = [point.step for point in events.Scalars(tag)]
        assert steps == sorted(steps), tag


def test_other_loggers_are_left_alone(data, fit, tmp_path):
    module = SparseCodingModule(16, expansion=2, lam=0.1)
    fit(module, data, TensorBoardHParams(), logger=CSVLogger(tmp_path, name="csv"), max_epochs=1)
    assert list(tmp_path.rglob("metrics.csv"))
    assert not list(tmp_path.rglob("events*"))

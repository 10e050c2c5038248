import json
from functools import partial

import pytest
import torch
from lightning import Callback
from sparsecode_control import Gaussian, MatchedGaussian
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparsecode_pl.callbacks import AdaptivePenalty, RunCheckpoint
from sparsecode_pl.data import Control, SampledSource
from sparsecode_pl.measurement import MeasurementError, load_results
from sparsecode_pl.measurement import fit as fit_module
from sparsecode_pl.measurement import run as run_module
from sparsecode_pl.measurement.trainer import default_trainer
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.utilities.files import checksum

TRAINER = partial(default_trainer, accelerator="cpu", devices=1, max_epochs=2, enable_progress_bar=False)


def module(**settings):
    return SparseCodingModule(**{"d_model": 16, "expansion": 2, **settings})


def without_seconds(value):
    if isinstance(value, dict):
        return {name: without_seconds(item) for name, item in value.items() if "seconds" not in name}
    return [without_seconds(item) for item in value] if isinstance(value, list) else value


def content(folder):
    """All that the results file says but for the time it took."""
    return without_seconds(json.loads((folder / "results.json").read_text()))


class Crash(Callback):
    """Ends training with an error when a batch begins, given its number from the beginning of training."""

    def __init__(self, batch):
        self.batch = batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.total_batch_idx == self.batch:
            raise ZeroDivisionError("the power fails")


def curves(run):
    """The points of all curves of the only fit of a run, without the text and the times of logging."""
    (events,) = {path.parent for path in run.rglob("events*") if path.parent != run}
    found = EventAccumulator(str(events), size_guidance={"scalars": 0}).Reload()
    return {tag: [(point.step, point.value) for point in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.fixture
def interrupted(run, make_data, tmp_path, monkeypatch):
    """The folder of a run of four fits that was killed in the third."""
    made = []

    def dying(*args):
        if len(made) == 2:
            TRAINER(module(), args[2]).logger.experiment.add_scalar("stale", 1.0)  # what a killed fit leaves
            raise KeyboardInterrupt
        made.append(fit_subject(*args))
        return made[-1]

    fit_subject = run_module.fit_subject
    monkeypatch.setattr(run_module, "fit_subject", dying)
    with pytest.raises(KeyboardInterrupt):
        run(module(), make_data(), MatchedGaussian(), seeds=2, trainer=TRAINER, folder=tmp_path / "killed")
    monkeypatch.undo()
    return tmp_path / "killed" / "version_0"


def test_a_run_that_was_killed_and_resumed_is_the_uninterrupted_run(interrupted, run, make_data, tmp_path, monkeypatch):
    run(module(), make_data(), MatchedGaussian(), seeds=2, trainer=TRAINER, folder=tmp_path / "whole")
    whole = tmp_path / "whole" / "version_0"
    assert not load_results(interrupted).complete
    assert [record.data for record in load_results(interrupted).records] == ["SparseLinear a=1.5"]
    before = {path: path.stat().st_mtime_ns for path in interrupted.rglob("fit.json")}
    assert len(before) == 2

    records = run(module(), make_data(), MatchedGaussian(), seeds=2, trainer=TRAINER, resume=interrupted)
    assert content(interrupted) == content(whole)
    assert load_results(interrupted).complete
    assert [path.name for path in interrupted.parent.iterdir()] == ["version_0"]
    for path, time in before.items():
        assert path.stat().st_mtime_ns == time  # finished fits were not made again
    for path in whole.rglob("*.safetensors"):
        assert checksum(interrupted / path.relative_to(whole)) == checksum(path)
    assert len(list((interrupted / "1-MatchedGaussian" / "seed_0").glob("events*"))) == 1
    assert records[1].fits[1].folder == interrupted / "1-MatchedGaussian" / "seed_1"


def test_a_complete_run_is_reported_again_and_nothing_is_fitted(run, make_data, tmp_path, no_fit, monkeypatch, capsys):
    folder = tmp_path / "runs" / "version_0"
    with monkeypatch.context() as patch:
        patch.setattr(SparseCodingModule, "training_step", TRAINING_STEP)
        run(module(lam=0.1), make_data(), Gaussian(), trainer=TRAINER)
    before = content(folder)
    capsys.readouterr()
    run(module(lam=0.1), make_data(), Gaussian(), trainer=TRAINER, resume=folder)
    assert content(folder) == before
    assert "How sparse is SparseLinear" in capsys.readouterr().out


TRAINING_STEP = SparseCodingModule.training_step


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 3}, "seeds is 3, but the run in .* was made with 2: give the same, or leave out resume"),
        ({"explained_variance": 0.9}, r"explained_variance is \[0.9\], but the run in .* was made with None"),
        ({"exact": True}, r"evaluations is \[.*'ExactCodes'.*\], but the run in .* was made with \[\]"),
    ],
)
def test_another_option_is_refused_by_name(interrupted, run, make_data, no_fit, change, message):
    options = {"seeds": 2, "trainer": TRAINER, "resume": interrupted, **change}
    with pytest.raises(ValueError, match=message):
        run(module(), make_data(), MatchedGaussian(), **options)


def test_another_module_or_other_data_are_refused_by_name(interrupted, run, make_data, no_fit):
    options = {"seeds": 2, "trainer": TRAINER, "resume": interrupted}
    with pytest.raises(ValueError, match=r"model.expansion is 3.0, but the run in .* was made with 2.0"):
        run(module(expansion=3), make_data(), MatchedGaussian(), **options)
    with pytest.raises(ValueError, match=r"subjects\[0\].source.seed is 1, but the run in"):
        run(module(), make_data(seed=1), MatchedGaussian(), **options)
    with pytest.raises(ValueError, match=r"subjects\[0\].batches_per_round is 7, but the run in"):
        run(module(), make_data(batches_per_round=7), MatchedGaussian(), **options)
    with pytest.raises(ValueError, match=r"subjects\[1\].title is 'Gaussian', but the run in .* 'MatchedGaussian'"):
        run(module(), make_data(), Gaussian(), **options)


def test_a_folder_that_is_no_run_is_refused(run, make_data, no_fit, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"resume is '.*', which holds no results.json: give the folder"):
        run(module(), make_data(), resume=tmp_path)
    with pytest.raises(
        OSError, match=r"resume is 'xxx.*', which cannot be read \(File name too long\): give the folder"
    ):
        run(module(), make_data(), resume="x" * 300)


def test_a_fit_that_failed_is_tried_again(run, make_data, tmp_path):
    class Falling(SampledSource):
        """Rows that cannot be drawn while a file is there."""

        d_model = 16

        def draw(self, num, random):
            if (tmp_path / "broken").exists():
                raise RuntimeError("the disk is gone")
            return torch.randn(num, 16, generator=random)

    class Stumbling(Control):
        def of(self, source):
            return Falling(300, False, 0)

    (tmp_path / "broken").touch()
    with pytest.raises(RuntimeError, match="To try the failed ones again, resume the run"):
        run(module(lam=0.1), make_data(), Stumbling(), trainer=TRAINER)
    (tmp_path / "broken").unlink()
    folder = tmp_path / "runs" / "version_0"
    _, control = run(module(lam=0.1), make_data(), Stumbling(), trainer=TRAINER, resume=folder)
    assert control["S1"] > 1
    assert not (folder / "1-Stumbling" / "error.txt").exists()


@pytest.mark.parametrize(("name", "value"), [("heldout_by", "rows"), ("unseen_by", "document"), ("unseen_split", 0.2)])
def test_data_that_are_split_otherwise_are_named(run, words, tmp_path, name, value):
    run(module(lam=0.1, d_model=8, learn=False), words(), trainer=TRAINER)
    with pytest.raises(ValueError, match=rf"subjects\[0\].{name} is '?{value}'?, but the run in .* was made with"):
        run(module(lam=0.1, d_model=8, learn=False), words(**{name: value}), resume=tmp_path / "runs" / "version_0")


def failing(*_):
    raise ZeroDivisionError("the power fails")


@pytest.mark.parametrize("batch", [3, 8, 10, None])
def test_a_fit_that_was_interrupted_goes_on_where_it_was(run, make_data, tmp_path, monkeypatch, batch):
    saver = RunCheckpoint(every_n_steps=2)
    settings = {"adaptive_penalty": AdaptivePenalty(tolerance=1e-9), "checkpoint": saver, "log_every_n_steps": 5}

    def measured(folder, *callbacks, **resume):
        trainer = partial(TRAINER, callbacks=callbacks, **settings)
        return run(module(), make_data(), explained_variance=0.5, trainer=trainer, folder=folder, **resume)

    measured(tmp_path / "whole")
    with monkeypatch.context() as patch:
        if batch is None:  # in scoring
            patch.setattr(fit_module, "score_at_shares", failing)
        with pytest.raises(MeasurementError):
            measured(tmp_path / "part", Crash(batch))
    part, whole = tmp_path / "part" / "version_0", tmp_path / "whole" / "version_0"
    batches = []
    with monkeypatch.context() as patch:
        patch.setattr(Crash, "on_train_batch_start", lambda self, trainer, *_: batches.append(trainer.global_step))
        measured(tmp_path, Crash(None), resume=part)
    assert content(part) == content(whole)
    assert curves(part) == curves(whole)
    (dictionary,) = whole.rglob("dictionary.safetensors")
    assert checksum(part / dictionary.relative_to(whole)) == checksum(dictionary)
    assert batches == list(range({3: 2, 8: 8, 10: 8, None: 12}[batch], 12))


def test_a_finished_fit_whose_scores_are_lost_is_scored_again_as_it_was(run, make_data, tmp_path):
    settings = {"explained_variance": 0.4, "trainer": TRAINER}
    (first,) = run(module(), make_data(), folder=tmp_path / "run", **settings)
    folder = tmp_path / "run" / "version_0"
    before = content(folder)
    (scores,) = folder.rglob("fit.json")
    scores.unlink()
    (again,) = run(module(), make_data(), resume=folder, **settings)
    assert content(folder) == before
    assert again["train_lam"] == first["train_lam"] != first["lam"]

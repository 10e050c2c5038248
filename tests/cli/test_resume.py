import json
import shutil

import pytest

from sparsecode_pl.cli import main


@pytest.fixture
def interrupted(measured, tmp_path):
    """A run folder that lacks the fit of the control, as where the run was killed in it."""
    run = shutil.copytree(measured, tmp_path / "out" / "version_0")
    (control,) = run.glob("1-*")
    (control / "fit.json").unlink()
    return run


def without_seconds(value):
    if isinstance(value, dict):
        return {name: without_seconds(item) for name, item in value.items() if "seconds" not in name}
    return [without_seconds(item) for item in value] if isinstance(value, list) else value


def content(run):
    """All that the results say but for the time it took."""
    return without_seconds(json.loads((run / "results.json").read_text()))


def fits(run):
    return {path.parent.name: path.stat().st_mtime_ns for path in run.rglob("fit.json")}


def test_the_missing_fits_are_made_and_the_others_kept(interrupted, measured, measurement, here, capsys):
    before = fits(interrupted)
    assert len(before) == 1
    main([*measurement, f"--resume={interrupted}"])
    after = fits(interrupted)
    assert len(after) == 2
    assert after.items() > before.items()
    assert content(interrupted) == content(measured)
    assert "MatchedGaussian" in capsys.readouterr().out
    assert list(here.rglob("version_*")) == [interrupted]


@pytest.mark.parametrize("option", ["--jobs=2", "--output=elsewhere", "--trainer.enable_progress_bar=true"])
def test_options_that_make_no_difference_to_the_results_may_be_others(measured, measurement, here, untrained, option):
    run = shutil.copytree(measured, here / "run")
    main([*measurement, option, f"--resume={run}"])
    assert content(run) == content(measured)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--model.expansion=3", "model.expansion is 3"),
        ("--data.active=2", "data.init_args.active is 2"),
        ("--seeds=2", "seeds is 2"),
        ("--explained_variance=0.9", "explained_variance is 0.9"),
        ("--exact", "exact is True"),
        ("--trainer.max_epochs=3", "trainer.max_epochs is 3"),
    ],
)
def test_another_setting_is_refused_by_name(measured, measurement, refused, option, message):
    said = refused(*measurement, option, f"--resume={measured}")
    assert message in said
    assert f"but the run in {measured} was made with" in said
    assert "give the same, or leave out resume to start a new run" in said


def test_a_folder_that_is_no_run_is_refused(refused, measurement, here):
    (here / "empty").mkdir()
    for name in ("empty", "nowhere"):
        message = refused(*measurement, f"--resume={name}")
        assert f"resume is '{name}', which holds no results.json: give the folder of a run" in message

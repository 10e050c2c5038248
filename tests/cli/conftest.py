import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sparsecode_synthetic import SparseLinear
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparsecode_pl.callbacks.run_checkpoint import checkpoints_in
from sparsecode_pl.cli import main
from sparsecode_pl.data import generator, write_store
from sparsecode_pl.module import SparseCodingModule


@pytest.fixture(scope="module", autouse=True)
def quick(empty_figures) -> None:
    """Spares every short fit its figures."""


@pytest.fixture(scope="session")
def quiet() -> list[str]:
    """Words that ask for the CPU and no progress bar."""
    return ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


@pytest.fixture(scope="session")
def small() -> list[str]:
    """Words that name small data with a known answer."""
    rows = {"d_model": 16, "num_features": 32, "active": 1.5, "num_samples": 500}
    return ["--data=SparseLinear", *(f"--data.{name}={value}" for name, value in rows.items())]


@pytest.fixture(scope="session")
def small_data() -> Callable[[], SparseLinear]:
    """Makes these data."""
    return lambda: SparseLinear(d_model=16, num_features=32, active=1.5, num_samples=500)


@pytest.fixture(scope="session")
def brief(small, quiet) -> list[str]:
    """Words that name small data, and two rounds of 6 batches."""
    return [*small, "--data.batch_size=128", "--data.batches_per_round=6", "--trainer.max_epochs=2", *quiet]


@pytest.fixture(scope="session")
def fit_words(brief) -> list[str]:
    """The command line of a short fit."""
    return ["fit", *brief]


@pytest.fixture(scope="session")
def measure_words(brief) -> list[str]:
    """The command line of a short measurement."""
    return ["measure", *brief]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder, and a process whose own command line is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sparsecode"])
    return tmp_path


def _run(folder: Path, *words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["sparsecode"])
        main(list(words))


@pytest.fixture(scope="session")
def fitted(tmp_path_factory, fit_words) -> Path:
    """The folder of a run of `sparsecode fit`; not to be changed."""
    folder = tmp_path_factory.mktemp("fit")
    _run(folder, *fit_words, "--model.expansion=3", "--model.scale=true")
    return folder / "lightning_logs" / "version_0"


@pytest.fixture(scope="session")
def checkpoint(fitted) -> str:
    """The checkpoint of that run."""
    path = checkpoints_in(fitted / "checkpoints")[0]
    return str(path)


@pytest.fixture(scope="session")
def measurement(measure_words) -> list[str]:
    """The command line of a measurement of data and one control, at a fixed penalty."""
    return [*measure_words, "--controls+=MatchedGaussian", "--model.lam=0.1", "--model.expansion=2", "--jobs=1"]


@pytest.fixture(scope="session")
def measured(tmp_path_factory, measurement) -> Path:
    """The folder of a run of that command line; not to be changed."""
    folder = tmp_path_factory.mktemp("measure")
    _run(folder, *measurement, "--output=out")
    return folder / "out" / "version_0"


@pytest.fixture(scope="session")
def final_scores() -> Callable[[Path], dict[str, float]]:
    """Reads the last of each score in the event file of a run."""

    def final_scores(folder: Path) -> dict[str, float]:
        events = EventAccumulator(str(folder)).Reload()
        return {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}

    return final_scores


@pytest.fixture(scope="session")
def text_words(tmp_path_factory, quiet) -> list[str]:
    """Words that name activations of text in a store, with the token and the document of each, and a short round."""
    random = generator(0)
    columns = {"token_id": torch.arange(800) % 50, "document": torch.arange(800) // 16}
    rows = torch.randn(800, 8, generator=random).clamp_min(0.5)
    path = write_store(tmp_path_factory.mktemp("text") / "store", [{"mlp": rows, **columns}], source={"model": "tiny"})
    short = ["--data.batch_size=128", "--data.batches_per_round=2", "--trainer.max_epochs=1"]
    return ["--data=ActivationStore", f"--data.path={path}", *short, *quiet]


@pytest.fixture
def untrained(monkeypatch) -> None:
    """Makes any training step an error."""
    monkeypatch.setattr(SparseCodingModule, "training_step", lambda *_: pytest.fail("training has begun"))


@pytest.fixture
def helped(here, capsys) -> Callable[..., str]:
    """Runs a command that must end with its help, and returns that on one line."""

    def helped(*words: str) -> str:
        with pytest.raises(SystemExit) as exited:
            main(list(words))
        assert exited.value.code == 0
        return " ".join(capsys.readouterr().out.split())

    return helped


@pytest.fixture
def refused(here, untrained, capsys) -> Callable[..., str]:
    """Runs a command that must end with an error in a line, and returns it; nothing may have begun."""

    def refused(*words: str) -> str:
        with pytest.raises(SystemExit) as exited:
            main(list(words))
        assert exited.value.code == 2
        assert not list(here.rglob("version_*"))
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return " ".join(re.search(r"^error: (.*)", captured.err, re.MULTILINE | re.DOTALL)[1].split())

    return refused

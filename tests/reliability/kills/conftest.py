"""Runs in processes of their own, to be killed at random moments."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

_SERVER = Path(__file__).with_name("server.py")
# What hangs fails the test after so many seconds.
_PATIENCE = 300


@dataclass(frozen=True)
class Run:
    """A run in a process of its own.

    Attributes:
        server: what started it.
        pid: of the process, which is the leader of its group.
        log: file of its output and errors.
    """

    server: "Server"
    pid: int
    log: Path

    def kill(self, number: int = signal.SIGKILL, *, group: bool = True) -> None:
        """Send a signal to the process, or to its group."""
        (os.killpg if group else os.kill)(self.pid, number)

    def status(self) -> int | None:
        """The exit code, or minus the number of the signal that ended it; None while it runs."""
        return self.server.status(self.pid)

    def wait(self, seconds: float = _PATIENCE) -> int | None:
        """Wait for the end, at most so many seconds; its status, None if it still runs."""
        end = time.monotonic() + seconds
        while (status := self.status()) is None and time.monotonic() < end:
            time.sleep(min(0.02, max(0.0, end - time.monotonic())))
        return status

    def end(self, seconds: float = _PATIENCE) -> int:
        """Wait for the end; its status."""
        status = self.wait(seconds)
        if status is None:
            self.kill()
            self.wait(10)
            pytest.fail(f"the run hangs:\n{self.said}")
        return status

    def died(self) -> bool:
        """Wait for the end; whether it was killed."""
        return self.end() in (-signal.SIGKILL, -signal.SIGALRM)

    @property
    def said(self) -> str:
        """Its output and errors so far."""
        return self.log.read_text()

    @property
    def changes(self) -> int:
        """How many changes it made to the disk, if it was not killed."""
        return int(re.findall(r"^changes: (\d+)$", self.said, re.MULTILINE)[-1])


class Server:
    """Starts runs by forking a process that has imported everything, see `server.py`.

    Args:
        logs: folder of the runs' output.
    """

    def __init__(self, logs: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, str(_SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._logs, self._started = logs, 0
        self._running: set[int] = set()
        threads = self._answer()["threads"]
        if threads != 1:
            self.close()
            pytest.fail(f"imports have started {threads - 1} threads, and a process with threads must not be forked")

    def start(
        self,
        folder: Path,
        *words: str,
        task: str = "sparsecode",
        at: int | None = None,
        fate: str = "killed",
        after: float = 0.0,
        **environment: str,
    ) -> Run:
        """Start a run.

        Args:
            folder: where it works.
            words: the command line.
            task: what is run, a key of `TASKS` in `server.py`.
            at: number of the change below the folder at which something befalls it; nothing does if None.
            fate: what befalls it: it is "killed", the disk is "full", the file system becomes
                "read-only", or it gets a signal, such as "SIGTERM".
            after: seconds that it lives on where it is killed; with 0 the change is not made.
            environment: further variables.
        """
        self._started += 1
        log = self._logs / f"{self._started}.log"
        request = {"task": task, "words": words, "folder": str(folder), "log": str(log), "environment": environment}
        pid = self.ask({**request, "at": at, "fate": fate, "after": after})["pid"]
        self._running.add(pid)
        return Run(self, pid, log)

    def status(self, pid: int) -> int | None:
        """See `Run.status`."""
        status = self.ask({"pid": pid})["status"]
        if status is not None:
            self._running.discard(pid)
        return status

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            pytest.fail("the server of runs has died")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the server, and the runs that a failed test has left."""
        for pid in self._running:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    """Starts runs."""
    if not hasattr(os, "fork") or not Path("/proc/self/task").is_dir():
        pytest.skip("needs Linux")
    made = Server(tmp_path_factory.mktemp("logs"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def quiet() -> list[str]:
    """Words of a short fit of small data with a known answer, on the CPU and without a progress bar."""
    rows = {"d_model": 16, "num_features": 32, "active": 1.5, "num_samples": 500, "batch_size": 128}
    data = ["--data=SparseLinear", *(f"--data.{name}={value}" for name, value in rows.items())]
    trainer = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.max_epochs=2"]
    return [*data, "--data.batches_per_round=6", *trainer]


@pytest.fixture(scope="session")
def fit_words(quiet) -> list[str]:
    """The command line of a fit that saves after every other batch, and goes on where it stopped."""
    return ["fit", *quiet, "--checkpoint.every_n_steps=2", "--trainer.log_every_n_steps=2", "--ckpt_path=last"]


@pytest.fixture(scope="session")
def measure_words(quiet) -> list[str]:
    """The command line of a measurement of data and a control, one after the other, into the folder `out`.

    Its scores are at a share of the variance, so at another penalty than that of training.
    """
    scored = ["--controls+=Gaussian", "--model.expansion=2", "--explained_variance=0.7"]
    return ["measure", *quiet, *scored, "--checkpoint.every_n_steps=2", "--jobs=1", "--output=out"]


@pytest.fixture(scope="session")
def cache_words(word_model, word_text) -> Callable[[str], list[str]]:
    """The command line that fills a store, by the name of its folder."""
    given = {"model_name_or_path": word_model, "text": word_text, "device": "cpu", "batch_tokens": 512}
    given |= {"num_activations": 6000, "shard_rows": 1500}
    words = ["cache", "--data=TransformerActivations", *(f"--data.{name}={value}" for name, value in given.items())]
    return lambda store: [*words, f"--data.store={store}"]


@dataclass(frozen=True)
class Whole:
    """A run that was not interrupted.

    Attributes:
        folder: where it worked.
        changes: how many changes it made there.
    """

    folder: Path
    changes: int


def _whole(server: Server, folder: Path, words: list[str]) -> Whole:
    run = server.start(folder, *words)
    assert run.end() == 0, run.said
    return Whole(folder, run.changes)


@pytest.fixture(scope="session")
def whole_fit(server, fit_words, tmp_path_factory) -> Whole:
    """The uninterrupted fit; not to be changed."""
    return _whole(server, tmp_path_factory.mktemp("whole_fit"), fit_words)


@pytest.fixture(scope="session")
def whole_measurement(server, measure_words, tmp_path_factory) -> Whole:
    """The uninterrupted measurement; not to be changed."""
    return _whole(server, tmp_path_factory.mktemp("whole_measurement"), measure_words)


@pytest.fixture(scope="session")
def whole_store(server, cache_words, tmp_path_factory) -> Whole:
    """The uninterrupted filling of a store; not to be changed."""
    return _whole(server, tmp_path_factory.mktemp("whole_store"), cache_words("store"))


@pytest.fixture
def moments() -> Callable[[int], dict[str, float]]:
    """Draws moments to be killed at: for a number of changes, `at` and `after`."""
    random = Random(0)  # noqa: S311

    def draw(changes: int) -> dict[str, float]:
        return {"at": random.randint(1, changes), "after": random.choice([0.0, random.uniform(0, 0.3)])}

    return draw


def _scalars(folder: Path) -> dict[str, list[tuple[str, int, float]]]:
    """The curves of each folder of TensorBoard files below one: tag, step and value, sorted."""
    found: dict[str, list[tuple[str, int, float]]] = {}
    for path in sorted({file.parent for file in folder.rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(path), {"scalars": 0}).Reload()
        found[str(path.relative_to(folder))] = sorted(
            (tag, event.step, event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)
        )
    return found


@pytest.fixture(scope="session")
def scalars() -> Callable[[Path], dict[str, list[tuple[str, int, float]]]]:
    """Reads the curves below a folder."""
    return _scalars


@pytest.fixture(scope="session")
def job(tmp_path_factory) -> dict[str, str]:
    """The variables of a job of SLURM, whose `scontrol` kills the process that asks it for a requeue."""
    command = tmp_path_factory.mktemp("bin") / "scontrol"
    command.write_text("#!/bin/sh\necho asked scontrol to $1 $2\nkill -KILL $PPID\n")
    command.chmod(0o755)
    numbers = {"JOB_ID": "7", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    path = f"{command.parent}:{os.environ['PATH']}"
    return {f"SLURM_{name}": value for name, value in {**numbers, "JOB_NAME": "fit", "NODELIST": "here"}.items()} | {
        "PATH": path
    }

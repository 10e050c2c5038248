"""Fits in parallel processes and on a cluster. Each worker imports torch, so one run serves many checks."""

import json
import logging
import os
import pickle
import warnings
from concurrent.futures import Future
from contextlib import nullcontext
from types import SimpleNamespace

import dask
import pytest
import torch
from dask.distributed import Client, LocalCluster
from joblib import parallel_config
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger
from sparsecode_control import MatchedGaussian, RandomDictionary

from sparsecode_pl.callbacks import AdaptivePenalty, DictionarySaver
from sparsecode_pl.coding import GreedyCoder
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.measurement import Fit, jobs, measure
from sparsecode_pl.measurement.jobs import Job, default_jobs
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.utilities.parcels import Parcels
from sparsecode_pl.utilities.workers import as_worker

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*configure_optimizers` returned `None`"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Makes the two workers of a Dask cluster those of joblib; a task whose worker dies is not tried again."""
    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.nanny.environ.PYTHONWARNINGS": "ignore",
        "temporary-directory": str(tmp_path_factory.mktemp("dask")),
    }
    with (
        dask.config.set(settings),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL) as two,
        Client(two),
    ):
        yield lambda: parallel_config(backend="dask")


@pytest.fixture(scope="module")
def runs(layered, cluster, tmp_path_factory):
    """For one process, for two and for a cluster: the run folder, the records, and what the measurement ended with.

    Layer 0 fails; the optimiser is a lambda, the rows are in memory.
    """

    def trainer(module, folder):  # made in here so that it is pickled whole
        logger = CSVLogger(folder.parent, name=folder.name, version="")
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        callbacks = [AdaptivePenalty(), DictionarySaver()]
        return Trainer(accelerator="cpu", devices=1, max_epochs=2, logger=logger, callbacks=callbacks, **quiet)

    found = []
    for number, backend in ((1, nullcontext), (2, nullcontext), (2, cluster)):
        folder = tmp_path_factory.mktemp("jobs")
        module = SparseCodingModule(
            8,
            expansion=4,
            coder=GreedyCoder(max_atoms=8),
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.03),
        )
        data, controls = layered((8, 12), broken=0), [MatchedGaussian(), RandomDictionary()]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with backend(), pytest.raises(RuntimeError) as error:
                measure(module, data, controls, explained_variance=0.7, jobs=number, folder=folder, trainer=trainer)
        run = folder / "version_0"
        found.append((run, json.loads((run / "results.json").read_text())["results"], error.value))
    return found


@pytest.mark.parametrize("other", [1, 2], ids=["two processes", "a cluster"])
def test_several_find_what_one_does_in_the_same_order(runs, other):
    alone, together = runs[0][1], runs[other][1]
    assert len(alone) == 6
    for expected, record in zip(alone, together, strict=True):
        assert list(record) == list(expected)
        intervals, others = (each.get("intervals", {}) for each in (record, expected))
        assert intervals.keys() == others.keys()
        for name, ends in intervals.items():
            assert ends == pytest.approx(others[name], rel=1e-4, abs=1e-6), name
        for name in record.keys() - {"seconds", "fits", "intervals"}:
            number = isinstance(record[name], float)  # sums of other threads round otherwise
            assert record[name] == (pytest.approx(expected[name], rel=1e-4) if number else expected[name]), name


def test_one_that_fails_in_a_process_loses_none_of_the_others(runs):
    for run, records, error in runs:
        failed = [number for number, record in enumerate(records) if "error" in record]
        assert failed == [0, 2]  # the layer, and its random dictionary, which is of the same rows
        assert records[0]["error"] == "RuntimeError: the disk is gone"
        assert str(error).startswith(
            "2 of 6 data sets failed, the first with RuntimeError: the disk is gone. The results"
        )
        traces = [path.read_text() for path in run.glob("*/error.txt")]
        assert len(traces) == 2
        assert all("Traceback" in trace and "the disk is gone" in trace for trace in traces)
        assert records[1]["S1"] > 1


@pytest.mark.parametrize("other", [1, 2], ids=["two processes", "a cluster"])
def test_each_fit_has_its_folder(runs, other):
    alone, together = runs[0][0], runs[other][0]
    saved = sorted(path.relative_to(alone) for path in alone.glob("*/dictionary"))
    assert len(saved) == 4
    for path in saved:
        atoms = Dictionary.from_pretrained(together / path).atoms
        torch.testing.assert_close(atoms, Dictionary.from_pretrained(alone / path).atoms, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("number", [0, -1])
def test_no_job_is_refused(run, layered, no_fit, number):
    with pytest.raises(ValueError, match=f"jobs is {number}: give at least 1"):
        run(SparseCodingModule(8), layered(), jobs=number)


def test_one_fit_spread_over_several_devices_is_the_only_one_at_a_time(monkeypatch):
    assert default_jobs(accelerator="cpu") >= 1
    assert default_jobs(accelerator="cpu", devices=2) == default_jobs(num_nodes=2) == 1
    monkeypatch.setitem(os.environ, "LOCAL_RANK", "0")
    assert default_jobs() == 1


class Stubborn(Exception):  # noqa: N818
    """Can be pickled, but not unpickled, as those of some libraries."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} in {where}")


@pytest.fixture
def in_worker(monkeypatch, tmp_path):
    """Calls a function as a worker does, from a file."""
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "setLevel", lambda _: None)

    def call(function):
        with Parcels(tmp_path) as parcels:
            return pickle.loads(pickle.dumps(jobs._in_worker(parcels.pack(function))))  # noqa: S301

    return call


def test_what_went_wrong_in_a_process_comes_back_whatever_it_was(in_worker):
    def task():
        raise Stubborn("a hole", "the disk")

    outcome = in_worker(task)
    assert str(outcome) == "Stubborn: a hole in the disk"
    assert "Traceback" in outcome.trace


def test_two_fits_at_once_in_a_process_are_refused(in_worker):
    with as_worker():
        assert "start workers of one thread each, with threads_per_worker=1" in str(in_worker(lambda: Fit(0)))
    assert in_worker(lambda: Fit(7)).seed == 7


def test_a_machine_without_the_folder_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "setLevel", lambda _: None)
    outcome = jobs._in_worker(tmp_path / "version_3" / ".jobs-x" / "0")
    assert f"does not see {tmp_path / 'version_3'}: give an output folder on storage" in str(outcome)


def test_a_process_that_dies_takes_no_other_along(cluster, tmp_path):  # on this machine: see the test of Processes
    def die():
        os._exit(1)

    def live():
        return Fit(0, scores={"S1": 1.0})

    tasks = [Job(task.__name__, task) for task in (live, die, live, live, live)]
    with cluster():
        found = dict(jobs._in_parallel(tasks, 2, tmp_path))
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert "lower jobs" in str(found[1])
    assert all(found[number].scores == {"S1": 1.0} for number in (0, 2, 3, 4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)])
def test_a_worker_that_is_told_to_stop_interrupts_the_run(monkeypatch, tmp_path, stop):
    def told():
        raise stop

    def here(_):  # one process that hands the exception back, as loky's do
        def submit(function, *args):
            future = Future()
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)
            return future

        return SimpleNamespace(submit=submit, shutdown=lambda wait: None)

    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "setLevel", lambda _: None)
    monkeypatch.setattr(jobs, "make_workers", here)
    with pytest.raises(type(stop)) as raised:
        list(jobs.run_jobs([Job("told", told), Job("other", lambda: Fit(0))], 2, tmp_path))
    assert raised.value.args == stop.args
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_has_left_is_removed_also_by_one_fit_at_a_time(tmp_path):
    (tmp_path / ".jobs-old").mkdir()
    (tmp_path / ".jobs-old" / "0").touch()
    list(jobs.run_jobs([Job("one", lambda: Fit(0))], 2, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_on_a_cluster_one_at_a_time_is_made_there_too(cluster, tmp_path):
    with cluster():
        ((number, fit),) = jobs.run_jobs([Job("where", lambda: Fit(0, scores={"pid": os.getpid()}))], 1, tmp_path)
    assert number == 0
    assert fit.scores["pid"] != os.getpid()


@pytest.mark.parametrize("backend", ["threading", "multiprocessing"])
def test_backends_without_processes_of_their_own_are_refused(run, layered, no_fit, backend):
    with parallel_config(backend=backend), pytest.raises(ValueError, match="give parallel_config backend='loky'"):
        run(SparseCodingModule(8), layered())

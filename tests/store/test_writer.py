import errno
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from sparsecode_pl.data import MemoryWriter, Store, StoreWriter

fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")


def killed(target, *args, after: float | None = None) -> bool:
    """Run something in a process of its own and kill it after so many seconds; whether it was killed."""
    process = multiprocessing.get_context("fork").Process(target=target, args=args)
    process.start()
    if after is not None:
        time.sleep(after)
        process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def write_slowly(fill, path: Path) -> None:
    torch.set_num_threads(1)
    append = StoreWriter.append

    def slow(*args):
        time.sleep(0.01)  # 21 of them take longer than the latest death
        append(*args)

    StoreWriter.append = slow
    fill(path, shards=6)


def write_and_die(fill, path: Path, call: int) -> None:
    """Die at the given call of what changes the disk, just before it is made."""
    torch.set_num_threads(1)
    calls = 0

    def dying(function):
        def wrapped(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapped

    os.fsync = dying(os.fsync)
    for name in ("replace", "open", "mkdir"):
        setattr(Path, name, dying(getattr(Path, name)))
    fill(path, shards=2)


@fork
@pytest.mark.filterwarnings("ignore:.*fork")
def test_killed_at_a_random_moment_and_run_again_it_is_the_same_store(tmp_path, fill, contents):
    fill(tmp_path / "uninterrupted", shards=6)
    expected = contents(tmp_path / "uninterrupted")
    moments = random.Random(0)  # noqa: S311
    deaths = sum(killed(write_slowly, fill, tmp_path / "s", after=moments.uniform(0, 0.1)) for _ in range(6))
    assert deaths > 0
    fill(tmp_path / "s", shards=6)
    assert contents(tmp_path / "s") == expected


@fork
@pytest.mark.filterwarnings("ignore:.*fork")
def test_killed_at_every_step_in_turn_it_is_the_same_store(tmp_path, fill, contents):
    fill(tmp_path / "uninterrupted", shards=2)
    expected = contents(tmp_path / "uninterrupted")
    for call in range(0, 1000, 2):
        path = tmp_path / str(call)
        if not killed(write_and_die, fill, path, call):
            break
        fill(path, shards=2)
        assert contents(path) == expected
    assert call > 30


def test_the_shard_of_a_context_left_by_an_error_is_thrown_away(tmp_path, fill, block, contents):
    fill(tmp_path / "s", shards=2, finish=False)
    before = contents(tmp_path / "s")
    writer = StoreWriter(tmp_path / "s", {"0": 3, "model.mlp": 5}, ["token", "position"])
    assert (writer.num_shards, writer.num_rows, writer.complete) == (2, 30, False)

    def fail() -> None:
        with writer:
            writer.append(*block(0, 10))
            assert (tmp_path / "s/layers/0/00002.safetensors.partial").exists()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert contents(tmp_path / "s") == before
    with pytest.raises(RuntimeError, match="is closed: open another to continue"):
        writer.append(*block(0, 10))


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path, fill):
    fill(tmp_path / "s", shards=2, finish=False)
    leftovers = ["manifest.json.partial", "layers/0/00002.safetensors", "layers/model.mlp/00002.safetensors.partial"]
    for name in [*leftovers, "README.md"]:
        (tmp_path / "s" / name).touch()
    fill(tmp_path / "s", shards=2)
    assert not any((tmp_path / "s" / name).exists() for name in leftovers)
    assert (tmp_path / "s/README.md").exists()
    assert Store(tmp_path / "s", verify=True).num_rows == 30


def test_a_complete_store_may_be_opened_but_not_written(store, fill, block, contents):
    before = contents(store)
    with StoreWriter(store, {"0": 3, "model.mlp": 5}, ["token", "position"], source={"model": "tiny"}) as writer:
        assert writer.complete
        for write in (lambda: writer.append(*block(0, 1)), writer.end_shard, writer.finish):
            with pytest.raises(RuntimeError, match="is complete: give another path"):
                write()
    assert contents(store) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"dtype": torch.float16},
            "dtype is 'float16', but the store at .* was made with 'float32': give the same, delete",
        ),
        ({"layers": {"0": 3}}, "layers is {'0': 3}, but .* with {'0': 3, 'model.mlp': 5}"),
        ({"columns": ["token"]}, r"columns is \['token'\], but"),
        ({"source": {"model": "other"}}, r"source\['model'\] is 'other', but .* with 'tiny'"),
        ({"source": {}}, r"source\['model'\] is None, but .* with 'tiny'"),
        ({"source": {"model": "tiny", "k": (1, 2)}}, r"source\['k'\] is \[1, 2\], but .* with None"),
    ],
)
def test_a_store_that_was_made_otherwise_is_refused(store, contents, change, message):
    before = contents(store)
    settings = {
        "layers": {"0": 3, "model.mlp": 5},
        "columns": ["token", "position"],
        "source": {"model": "tiny"},
        **change,
    }
    with pytest.raises(ValueError, match=message):
        StoreWriter(store, **settings)
    assert contents(store) == before


def test_a_path_that_holds_other_things(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="that folder has content that is not a store: give another path"):
        StoreWriter(tmp_path, {"0": 3})
    with pytest.raises(FileExistsError, match="that is a file"):
        StoreWriter(tmp_path / "file", {"0": 3})


def test_a_spoilt_store_is_not_gone_on_with(tmp_path, fill):
    fill(tmp_path / "s", finish=False)
    (tmp_path / "s/layers/0/00001.safetensors").unlink()
    with pytest.raises(ValueError, match=r"layers/0/00001.safetensors is missing"):
        fill(tmp_path / "s")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": {}}, "layers is empty"),
        ({"layers": {"..": 3}}, r"layers has '\.\.': give a name of letters"),
        ({"layers": {"a/b": 3}}, "layers has 'a/b'"),
        ({"layers": {"0": 0}}, "'0' a width of 0"),
        ({"layers": {"0": 3}, "columns": ["a", "a"]}, "columns has 'a' twice"),
        ({"layers": {"0": 3}, "columns": ["__metadata__"]}, "columns has '__metadata__'"),
        ({"layers": {"0": 3}, "dtype": torch.float64}, "dtype is float64: give one of float32, float16, bfloat16"),
    ],
)
def test_settings_that_no_store_can_have(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        StoreWriter(tmp_path / "s", **settings)
    assert not (tmp_path / "s").exists()


def test_a_source_that_json_cannot_hold(tmp_path):
    with pytest.raises(TypeError, match=r"source is .*: give text, numbers"):
        StoreWriter(tmp_path / "s", {"0": 3}, source={"model": object()})


def test_a_store_without_rows_is_not_finished(tmp_path):
    with StoreWriter(tmp_path / "s", {"0": 3}) as writer:
        writer.append({"0": torch.empty(0, 3)}, {})
        writer.end_shard()
        assert writer.num_shards == 0
        with pytest.raises(ValueError, match="got no rows"):
            writer.finish()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("full", ["layers/model.mlp/00002.safetensors.partial", "columns/00002.safetensors.partial"])
@pytest.mark.parametrize("size", [10, 100_000], ids=["at the end of the shard", "while appending"])
def test_on_a_full_disk_the_finished_shards_stay_usable(tmp_path, fill, block, whole, contents, full, size):
    fill(tmp_path / "s", shards=2, finish=False)
    before = contents(tmp_path / "s")
    writer = StoreWriter(tmp_path / "s", {"0": 3, "model.mlp": 5}, ["token", "position"])
    (tmp_path / "s" / full).symlink_to("/dev/full")  # for opening it removes what is left over

    def write() -> None:
        with writer:
            writer.append(*block(0, size))
            writer.end_shard()

    with pytest.raises(OSError, match=r"30 rows of each layer are safe .* partial=True") as raised:
        write()
    assert raised.value.errno == errno.ENOSPC
    assert {name: x for name, x in contents(tmp_path / "s").items() if "00002" not in name} == before
    assert torch.equal(Store(tmp_path / "s", partial=True, verify=True).rows("0")[:], whole(2)[0]["0"])
    with pytest.raises(RuntimeError, match="is closed"):  # and not short of the rows that were lost
        writer.append(*block(0, 1))
    fill(tmp_path / "s")
    assert torch.equal(Store(tmp_path / "s", verify=True).rows("model.mlp")[:], whole()[0]["model.mlp"])


def anonymous_memory() -> int:
    """Bytes of this process that are no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc/self/status")
def test_a_shard_is_never_in_memory_as_a_whole(tmp_path):
    rows, columns = {"0": torch.ones(256, 512)}, {"token": torch.arange(256)}
    with StoreWriter(tmp_path / "s", {"0": 512}, ["token"]) as writer:
        writer.append(rows, columns)
        before, most = anonymous_memory(), 0
        for _ in range(128):
            writer.append(rows, columns)
            most = max(most, anonymous_memory())
        writer.finish()
        most = max(most, anonymous_memory())
    size = (tmp_path / "s/layers/0/00000.safetensors").stat().st_size
    assert size > 64 << 20
    assert most - before < size / 8


@pytest.fixture(params=["disk", "memory"])
def writer(request, tmp_path):
    """A writer of one layer and one column, on disk and in memory."""
    if request.param == "memory":
        return MemoryWriter({"a": 2}, ["token"])
    return StoreWriter(tmp_path / "s", {"a": 2}, ["token"])


NAN, INF = float("nan"), float("inf")
TOKEN = torch.tensor([7, 8])


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ({}, {"token": TOKEN}, "layers given are none: give a"),
        ({"a": torch.ones(2, 2), "b": torch.ones(2, 2)}, {"token": TOKEN}, "layers given are a, b: give a"),
        ({"a": torch.ones(2, 2)}, {}, "columns given are none: give token"),
        ({"a": torch.ones(2, 3)}, {"token": TOKEN}, r"layer 'a' is .* of shape \(2, 3\): give .* \(2, 2\)"),
        ({"a": torch.ones(2)}, {"token": TOKEN}, r"layer 'a' is .* of shape \(2,\)"),
        ({"a": torch.tensor(1.0)}, {"token": TOKEN}, r"layer 'a' is .* of shape \(\)"),
        ({"a": torch.ones(2, 2).int()}, {"token": TOKEN}, "layer 'a' is torch.int32"),
        ({"a": torch.ones(2, 2)}, {"token": TOKEN[:1]}, r"column 'token' is torch.int64 of shape \(1,\): give"),
        ({"a": torch.ones(2, 2)}, {"token": TOKEN.float()}, "column 'token' is torch.float32"),
        ({"a": torch.ones(2, 2)}, {"token": TOKEN << 40}, "fit into 32 bits"),
        ({"a": torch.tensor([[1, 2], [NAN, 1]])}, {"token": TOKEN}, r"'a' has values .* \(row 4, token 8\): find out"),
        ({"a": torch.tensor([[INF, -INF], [1, 1]])}, {"token": TOKEN}, r"NaN or infinite \(row 3, token 7\)"),
        ({"a": torch.tensor([[1, 1], [1, 1e300]]).double()}, {"token": TOKEN}, "NaN or infinite"),
    ],
)
def test_rows_that_are_refused_leave_the_writer_as_it_was(writer, rows, columns, message):
    with writer:
        writer.append({"a": torch.ones(3, 2)}, {"token": torch.arange(3)})
        with pytest.raises(ValueError, match=message):
            writer.append(rows, columns)
        writer.append({"a": torch.zeros(2, 2)}, {"token": TOKEN})
        writer.finish()
    assert writer.num_rows == 5


def test_values_that_float16_cannot_hold(tmp_path):
    with StoreWriter(tmp_path / "s", {"a": 2}, dtype=torch.float16) as writer:
        writer.append({"a": torch.tensor([[60000.0, 60000.0]] * 4)}, {})  # whose sum float16 could not hold
        with pytest.raises(
            ValueError, match=r"'a' has a value of size 70000 \(row 5\), which does not fit .*float16: store"
        ):
            writer.append({"a": torch.tensor([[1.0, 1.0], [-70000.0, 1.0]])}, {})


def test_finite_values_whose_sum_is_not_are_kept(writer):
    with writer:
        writer.append({"a": torch.full((2, 2), 3e38)}, {"token": TOKEN})
        writer.finish()
    assert writer.num_rows == 2

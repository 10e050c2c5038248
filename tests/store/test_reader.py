import hashlib
import json
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from sparsecode_pl.data import Store


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_read_is_what_was_written_in_the_stores_precision(tmp_path, fill, whole, dtype):
    fill(tmp_path / "s", dtype=dtype, source={"model": "tiny", "filters": [1, 2]})
    rows, columns = whole()
    store = Store(tmp_path / "s", verify=True)
    assert store.dtype == dtype
    assert store.num_rows == 60
    assert store.layers == {"0": 3, "model.mlp": 5}
    assert store.source == {"model": "tiny", "filters": [1, 2]}
    assert store.facts == {"dropped": 4}
    for layer, x in rows.items():
        stored = store.rows(layer)
        assert stored.shape == x.shape
        assert len(stored) == 60
        assert stored[:].dtype == torch.float32
        assert torch.equal(stored[:], x.to(dtype).float())
    read = store.columns()
    assert list(read) == ["token", "position"]
    assert all(torch.equal(read[name], columns[name]) and read[name].dtype == torch.int32 for name in columns)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(index=st.lists(st.integers(-60, 59), max_size=80), shards=st.sampled_from([0, 1, 3]))
def test_random_rows_equal_plain_indexing(tmp_path_factory, fill, whole, index, shards):
    path = tmp_path_factory.getbasetemp() / f"shards{shards}"
    if not path.exists():
        fill(path, shards=shards, finish=False, dtype=torch.bfloat16)
    x = whole(shards)[0]["model.mlp"].bfloat16().float() if shards else torch.empty(0, 5)
    stored = Store(path, partial=True).rows("model.mlp")
    number = torch.tensor([i for i in index if -len(x) <= i < len(x)], dtype=torch.int64)
    assert torch.equal(stored[number], x[number])


@given(start=st.integers(-70, 70), stop=st.none() | st.integers(-70, 70), step=st.sampled_from([None, 1, 2, 7, -1, -3]))
def test_slices_equal_those_of_a_list(tmp_path_factory, fill, whole, start, stop, step):
    path = tmp_path_factory.getbasetemp() / "slices"
    if not path.exists():
        fill(path)
    x = whole()[0]["0"]
    where = slice(start, stop, step)
    assert torch.equal(Store(path).rows("0")[where], x[list(range(60))[where]])


@pytest.mark.parametrize("index", [[60], [0, -61]])
def test_rows_that_are_not_there(store, index):
    with pytest.raises(IndexError, match="outside of 0 to 59"):
        Store(store).rows("0")[torch.tensor(index)]


def test_what_is_read_is_a_copy(store):
    rows = Store(store).rows("0")
    before = rows[:].clone()
    rows[:].zero_()
    rows[torch.arange(5)].zero_()
    assert torch.equal(rows[:], before)


def test_another_program_can_read_and_check_it(store, whole):
    manifest = json.loads((store / "manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["num_rows"] == 60
    assert [shard["rows"] for shard in manifest["shards"]] == [10, 20, 30]
    rows, columns = whole()
    for number in range(3):
        start = [0, 10, 30, 60][number : number + 2]
        found = load_file(store / f"layers/model.mlp/{number:05d}.safetensors")
        assert list(found) == ["activations"]
        assert torch.equal(found["activations"], rows["model.mlp"][slice(*start)])
        found = load_file(store / f"columns/{number:05d}.safetensors")
        assert torch.equal(found["token"], columns["token"][slice(*start)])
    files = {name: file for shard in manifest["shards"] for name, file in shard["files"].items()}
    assert {str(path.relative_to(store)) for path in store.rglob("*.*") if path.is_file()} == {*files, "manifest.json"}
    for name, file in files.items():
        content = (store / name).read_bytes()
        assert file["bytes"] == len(content)
        assert file["checksum"] == "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is absent")
def test_the_systems_tool_can_check_it(store):
    files = json.loads((store / "manifest.json").read_text())["shards"][1]["files"]
    lines = "".join(f"{file['checksum'].removeprefix('sha256:')}  {name}\n" for name, file in files.items())
    subprocess.run(["sha256sum", "--check", "--strict"], input=lines.encode(), cwd=store, check=True)  # noqa: S607


def test_rows_pickle_small_and_are_mapped_anew(store):
    rows = Store(store).rows("0")
    expected = rows[:]
    pickled = pickle.dumps(rows)
    assert len(pickled) < 2000
    assert torch.equal(pickle.loads(pickled)[:], expected)  # noqa: S301


def test_a_folder_that_is_no_store(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere', and there is no such folder: give the folder that"):
        Store(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"it holds no manifest\.json: give"):
        Store(tmp_path)


def test_an_unfinished_store_is_refused_unless_that_is_wanted(tmp_path, fill, whole):
    fill(tmp_path / "s", shards=2, finish=False)
    with pytest.raises(ValueError, match="is unfinished, with 30 rows so far: run what wrote it again"):
        Store(tmp_path / "s")
    store = Store(tmp_path / "s", partial=True)
    assert store.num_rows == 30
    assert torch.equal(store.rows("0")[:], whole(2)[0]["0"])


def test_unknown_layers_are_answered_with_those_there_are_the_nearest_first(store):
    with pytest.raises(ValueError, match=r"layer is 'model.mpl', .* has no such layer: give one of model.mlp, 0"):
        Store(store).rows("model.mpl")


def edit(store: Path, change) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    change(manifest)
    (store / "manifest.json").write_text(json.dumps(manifest))


def test_a_missing_file(store):
    (store / "layers/0/00001.safetensors").unlink()
    with pytest.raises(ValueError, match=r"layers/0/00001.safetensors is missing"):
        Store(store)


def test_a_truncated_file(store):
    path = store / "layers/model.mlp/00002.safetensors"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 4)
    with pytest.raises(ValueError, match=rf"mlp/00002.safetensors has {size - 4} bytes, but the manifest says {size}"):
        Store(store)


def test_a_header_that_is_not_one(store):
    path = store / "layers/0/00000.safetensors"
    path.write_bytes(b" " * path.stat().st_size)
    with pytest.raises(ValueError, match=r"layers/0/00000.safetensors is not a safetensors file"):
        Store(store)


def test_other_rows_than_the_manifest_says(store):
    def change(manifest):
        manifest["shards"][1]["rows"] += 1
        manifest["num_rows"] += 1

    edit(store, change)
    with pytest.raises(
        ValueError, match=r"layers/0/00001.safetensors holds .*\(20, 3\).* the manifest says .*\(21, 3\)"
    ):
        Store(store)


def test_a_file_that_the_manifest_does_not_list(store):
    edit(store, lambda manifest: manifest["shards"][2]["files"].pop("columns/00002.safetensors"))
    with pytest.raises(ValueError, match=r"shard 2 and its layers and columns differ in columns/00002.safetensors"):
        Store(store)


def test_a_changed_number_is_found_by_its_checksum(store):
    path = store / "layers/0/00001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    Store(store)
    with pytest.raises(ValueError, match=r"layers/0/00001.safetensors has changed: its checksum is sha256:"):
        Store(store, verify=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(format=2), "is of format 2, but this version reads formats up to 1"),
        (lambda manifest: manifest.update(num_rows=61), "says 61 rows, but its shards have 60"),
        (lambda manifest: manifest.pop("layers"), "is not the manifest of a store"),
        (lambda manifest: manifest.update(dtype="int8"), "dtype is int8: give one of float32"),
        (lambda manifest: manifest["layers"].update({"../x": 3}), r"layers has '../x': give a name"),
    ],
)
def test_a_manifest_that_cannot_be_read(store, change, message):
    edit(store, change)
    with pytest.raises(ValueError, match=message):
        Store(store)


def test_a_manifest_that_is_not_json(store):
    (store / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest.json is not the manifest of a store"):
        Store(store)

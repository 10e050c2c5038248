import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecode_pl.data import Store, write_store


class CutError(Exception):
    pass


def pieces(sizes: list[int], stop: int | None = None) -> iter:
    """Arrays of two layers and a column, whose rows depend on their number alone."""
    number = np.arange(sum(sizes))
    x, y = np.sin(number[:, None] * np.arange(1, 4)), np.cos(number[:, None] * np.arange(1, 3)).astype(np.float32)
    start = 0
    for count, size in enumerate(sizes):
        if count == stop:
            raise CutError
        where = slice(start, start + size)
        yield {"x": x[where], "y": torch.from_numpy(y[where]), "number": number[where]}
        start += size


def shard_sizes(path) -> list[int]:
    return [shard["rows"] for shard in json.loads((path / "manifest.json").read_text())["shards"]]


@settings(deadline=None, max_examples=15)
@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=4), shard_rows=st.integers(8, 40))
def test_arrays_are_cut_at_the_ends_of_shards(tmp_path_factory, sizes, shard_rows):
    path = tmp_path_factory.mktemp("s")
    n = sum(sizes)
    if n == 0:
        with pytest.raises(ValueError, match="got no rows"):
            write_store(path, pieces(sizes), shard_rows=shard_rows)
        return
    store = Store(write_store(path, pieces(sizes), shard_rows=shard_rows), verify=True)
    assert shard_sizes(path) == [min(shard_rows, n - start) for start in range(0, n, shard_rows)]
    assert store.columns()["number"].tolist() == list(range(n))
    expected = torch.sin(torch.arange(n).double()[:, None] * torch.arange(1, 4)).float()
    torch.testing.assert_close(store.rows("x")[:], expected)


@pytest.mark.parametrize(
    "arrays",
    [
        np.arange(12.0).reshape(6, 2),
        np.arange(12, dtype=np.float16).reshape(6, 2),
        torch.arange(12.0, dtype=torch.bfloat16).reshape(6, 2),
        torch.arange(12.0, requires_grad=True).reshape(6, 2),
        [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0], [8.0, 9.0], [10.0, 11.0]],
    ],
    ids=["float64", "float16", "bfloat16", "grad", "lists"],
)
def test_arrays_of_many_kinds(tmp_path, arrays):
    store = Store(write_store(tmp_path / "s", [arrays, arrays], dtype="bfloat16", source={"who": "me"}))
    assert store.layers == {"activations": 2}
    assert store.source == {"who": "me"}
    assert store.dtype == torch.bfloat16
    assert store.rows("activations")[:].flatten().tolist() == [*range(12)] * 2


def test_a_read_only_array(tmp_path):
    x = np.ones((4, 2))
    x.flags.writeable = False
    assert Store(write_store(tmp_path / "s", [x])).num_rows == 4


@pytest.mark.parametrize("stop", range(1, 6))
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_cut_off_and_called_again_it_is_the_same_store(tmp_path, contents, stop, dtype):
    sizes = [5, 17, 3, 30, 8, 11]
    write_store(tmp_path / "uninterrupted", pieces(sizes), dtype=dtype, shard_rows=16)
    with pytest.raises(CutError):
        write_store(tmp_path / "s", pieces(sizes, stop), dtype=dtype, shard_rows=16)
    assert sum(shard_sizes(tmp_path / "s")) == sum(sizes[:stop]) // 16 * 16
    for _ in range(2):  # and once more with the complete store
        write_store(tmp_path / "s", pieces(sizes), dtype=dtype, shard_rows=16)
        assert contents(tmp_path / "s") == contents(tmp_path / "uninterrupted")


def test_other_arrays_than_those_in_the_store_are_refused(tmp_path, contents):
    with pytest.raises(CutError):
        write_store(tmp_path / "s", pieces([20, 20, 20], stop=2), shard_rows=16)
    before = contents(tmp_path / "s")

    def altered(name, row):
        item = next(pieces([60]))
        item[name][row] += 1
        return [item]

    for name, row in (("x", 0), ("y", 31), ("number", 17)):
        with pytest.raises(ValueError, match=f"row {row} of '{name}' is not the one in the store .* give the arrays"):
            write_store(tmp_path / "s", altered(name, row), shard_rows=16)
    with pytest.raises(ValueError, match=r"arrays have 20 rows, and the store .* holds 32: give"):
        write_store(tmp_path / "s", pieces([20]), shard_rows=16)
    assert contents(tmp_path / "s") == before
    write_store(tmp_path / "s", altered("x", 32), shard_rows=16)  # which was not in the store yet


def test_more_rows_than_a_complete_store_has(tmp_path):
    write_store(tmp_path / "s", pieces([20]))
    with pytest.raises(RuntimeError, match="is complete: give another path"):
        write_store(tmp_path / "s", pieces([20, 1]))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([], "arrays is empty"),
        ([np.ones(3)], r"arrays have shapes {'activations': \(3,\)}: give layers"),
        ([np.ones((3, 2, 2))], r"arrays have shapes {'activations': \(3, 2, 2\)}"),
        ([{}], "arrays have shapes {}"),
        ([{"x": np.ones((3, 2)), "y": np.ones((4, 2))}], "the same number of rows for every layer and column"),
        ([{"x": np.ones((3, 2)), "t": np.ones(3)}], "column 't' is torch.float64"),
        ([np.ones((3, 2)), np.ones((3, 4))], r"layer 'activations' is .* of shape \(3, 4\)"),
        ([np.ones((3, 2)), {"x": np.ones((3, 2))}], "layers given are x: give activations"),
        ([np.ones((3, 2), dtype=np.int64)], "layer 'activations' is torch.int64"),
        ([np.ones((3, 2)), np.full((2, 2), np.nan)], r"NaN or infinite \(row 3\)"),
    ],
)
def test_arrays_that_are_refused(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        write_store(tmp_path / "s", arrays)


@pytest.mark.parametrize(("name", "value"), [("dtype", "int8"), ("shard_rows", 0)])
def test_arguments_out_of_range(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name} is '?{value}'?: give"):
        write_store(tmp_path / "s", [np.ones((3, 2))], **{name: value})

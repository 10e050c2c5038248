import hashlib
import os

import pytest

from sparsecode_pl.utilities import files
from sparsecode_pl.utilities.files import checksum, partial_path, publish, write_file, write_files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced_and_nothing_is_left_beside_it(tmp_path):
    for content in (b"first", b"", b"a longer second"):
        write_file(tmp_path / "file.json", content)
        assert (tmp_path / "file.json").read_bytes() == content
        assert names(tmp_path) == ["file.json"]


def test_a_file_that_is_being_written_has_another_name_in_the_same_folder(tmp_path):
    path = partial_path(tmp_path / "a.json")
    assert path.parent == tmp_path
    assert path.name not in ("a.json", partial_path(tmp_path / "a.csv").name)


def test_where_one_of_several_cannot_be_written_all_stay_as_they_were(tmp_path):
    write_files({tmp_path / "a": b"old a", tmp_path / "b": b"old b"})
    with pytest.raises(OSError, match="nowhere"):
        write_files({tmp_path / "a": b"new a", tmp_path / "nowhere" / "b": b"new b"})
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"old a", b"old b"]
    assert names(tmp_path) == ["a", "b"]


def test_no_file_takes_its_name_before_all_are_safe_on_the_disk(tmp_path, monkeypatch):
    events = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: events.append("safe") or fsync(number))
    monkeypatch.setattr(files, "publish", lambda path: events.append(path.name) or publish(path))
    write_files({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert events[:3] == ["safe", "safe", "a"]
    assert [event for event in events if event != "safe"] == ["a", "b"]


def test_a_process_that_dies_between_two_names_leaves_the_other_file_whole(tmp_path, monkeypatch):
    def dying(path):
        if path.name == "b":
            raise KeyboardInterrupt
        publish(path)

    write_files({tmp_path / "a": b"old a", tmp_path / "b": b"old b"})
    monkeypatch.setattr(files, "publish", dying)
    with pytest.raises(KeyboardInterrupt):
        write_files({tmp_path / "a": b"new a", tmp_path / "b": b"new b"})
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"new a", b"old b"]
    assert partial_path(tmp_path / "b").read_bytes() == b"new b"


def test_publishing_gives_a_partial_file_its_name(tmp_path):
    partial_path(tmp_path / "a").write_bytes(b"whole")
    publish(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert names(tmp_path) == ["a"]


def test_the_checksum_is_that_of_sha256sum(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # the example of the standard, FIPS 180
    assert checksum(tmp_path / "abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "long").write_bytes(content := bytes(range(256)) * 5000)
    assert checksum(tmp_path / "long") == f"sha256:{hashlib.sha256(content).hexdigest()}"

import hashlib
import json
import shutil
from types import SimpleNamespace

import datasets
import pyarrow
import pytest
from datasets import Dataset, IterableDataset
from pyarrow import parquet
from sparsecode_transformer.text import TextSource

TEXTS = ["one", "", "two, \u2028 after a line separator\x0b", "  \t", "three \u00e9\u4e16"]
DOCUMENTS = [TEXTS[0], TEXTS[2], TEXTS[4]]


@pytest.fixture
def write(tmp_path):
    """Write texts to a file of a kind, in a column."""

    def written(ending: str, texts=TEXTS, column: str = "text") -> str:
        path = tmp_path / f"corpus{ending}"
        if ending == ".txt":
            path.write_text("\n".join(texts), encoding="utf-8")
        elif ending == ".jsonl":
            path.write_text("\n\n".join(json.dumps({"n": 1, column: text}) for text in texts))
        else:
            parquet.write_table(pyarrow.table({"n": [1] * len(texts), column: texts}), path)
        return str(path)

    return written


@pytest.fixture
def hub(monkeypatch):
    """A hub that has one data set, and the calls it gets."""
    calls = []

    def load(name, config=None, **kwargs):
        calls.append((name, config, kwargs))
        rows = {"n": list(range(len(TEXTS))), "body": TEXTS}
        if not kwargs["streaming"]:
            return Dataset.from_dict(rows)
        return IterableDataset.from_generator(lambda: ({"n": 0, "body": text} for text in TEXTS))

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(
        datasets, "load_dataset_builder", lambda name, config, revision: SimpleNamespace(hash=f"commit of {revision}")
    )
    return calls


@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".parquet"])
def test_the_documents_of_a_file_in_order_without_the_empty_ones(write, ending):
    path = write(ending)
    assert list(TextSource(path).documents()) == DOCUMENTS
    assert list(TextSource(path, max_documents=2).documents()) == DOCUMENTS[:2]
    assert list(TextSource(path, max_documents=99).documents()) == DOCUMENTS


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_another_column_and_missing_entries(write, ending):
    path = write(ending, ["a", None, "b"], column="body")
    assert list(TextSource(path, column="body").documents()) == ["a", "b"]
    with pytest.raises(ValueError, match=r"column is 'text', but .*corpus.* has 'n', 'body': give one of these"):
        list(TextSource(path).documents())


def test_a_text_file_has_one_column(write):
    with pytest.raises(ValueError, match=r"column is 'body', but .*corpus\.txt' has 'text'"):
        list(TextSource(write(".txt"), column="body").documents())


def test_windows_files_read_alike(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\ntwo\r\n".encode())
    assert list(TextSource(str(tmp_path / "a.txt")).documents()) == ["one", "two"]


def test_files_are_read_no_further_than_asked(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' * 2 + "spoilt")
    assert list(TextSource(str(tmp_path / "a.jsonl"), max_documents=2).documents()) == ["fine"] * 2


@pytest.mark.parametrize("line", ["spoilt", "[1]", '{"text": "cut'])
def test_a_line_that_is_no_json_object_is_numbered(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "fine"}}\n\n{line}\n')
    with pytest.raises(
        ValueError, match=r"text is .*a\.jsonl', and its line 3 is not a JSON object: give one per line"
    ):
        list(TextSource(str(tmp_path / "a.jsonl")).documents())


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_an_entry_that_is_not_text(write, ending):
    with pytest.raises(ValueError, match=r"column is 'n', and row 1 of .* holds int, not text: give a column of strin"):
        list(TextSource(write(ending), column="n").documents())


def test_half_a_surrogate_pair(write):
    with pytest.raises(ValueError, match=r"text is .*, and row 3 is not valid Unicode: correct it"):
        list(TextSource(write(".jsonl", ["fine", "half \ud83d"])).documents())


@pytest.mark.parametrize("ending", [".txt", ".jsonl"])
def test_a_file_in_another_encoding(tmp_path, ending):
    (tmp_path / f"a{ending}").write_bytes("{'text': 'é'}".encode("latin1"))
    with pytest.raises(ValueError, match="which is not UTF-8: convert it"):
        list(TextSource(str(tmp_path / f"a{ending}")).documents())


def test_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "a.parquet").write_text("text")
    with pytest.raises(ValueError, match=r"a\.parquet', which is not a Parquet file"):
        list(TextSource(str(tmp_path / "a.parquet")).documents())


@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".parquet"])
@pytest.mark.parametrize("texts", [[], ["", " "]])
def test_a_file_without_documents(write, ending, texts):
    if ending == ".parquet":
        texts = pyarrow.array(texts, pyarrow.string())
    with pytest.raises(ValueError, match=r"text is .*, and column 'text' holds no document that is not empty"):
        list(TextSource(write(ending, texts)).documents())


@pytest.mark.parametrize("name", ["nowhere.txt", "Nowhere.JSONL", "./nowhere", "/no/such.csv", "~/nowhere", "a/b/c"])
def test_a_file_that_does_not_exist(name):
    with pytest.raises(FileNotFoundError, match=f"text is '{name}', and there is no such file: give one that ends in"):
        TextSource(name)


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "a.csv").touch()
    with pytest.raises(ValueError, match=r"a\.csv', and no such file is read: give one that ends in \.txt, \.jsonl"):
        TextSource(str(tmp_path / "a.csv"))


@pytest.mark.parametrize(("argument", "value"), [("split", "test"), ("revision", "main")])
def test_what_only_a_data_set_has_is_refused_for_a_file(write, argument, value):
    with pytest.raises(ValueError, match=f"{argument} is '{value}', but .* is a file, which has none: leave it out"):
        TextSource(write(".txt"), **{argument: value})


def test_no_documents_asked_for():
    with pytest.raises(ValueError, match="max_documents is 0: give at least 1"):
        TextSource("wikitext", max_documents=0)


def test_a_file_is_told_by_its_content_and_not_by_its_place(write, tmp_path):
    path = write(".txt")
    identity = TextSource(path).identity()
    content = (tmp_path / "corpus.txt").read_bytes()
    assert identity["sha256"] == hashlib.sha256(content).hexdigest()
    assert identity["bytes"] == len(content)
    assert str(tmp_path) not in json.dumps(identity)
    (tmp_path / "other").mkdir()
    moved = shutil.copy(path, tmp_path / "other")
    assert TextSource(str(moved)).identity() == identity
    write(".txt", ["other"])
    assert TextSource(path).identity() != identity
    assert TextSource(str(moved), max_documents=1).identity() != identity


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_of_the_hub(hub, streaming):
    source = TextSource("some/data:config", "test", "body", streaming=streaming, max_documents=2, revision="v1")
    assert list(source.documents()) == DOCUMENTS[:2]
    assert hub == [("some/data", "config", {"split": "test", "streaming": streaming, "revision": "v1"})]
    assert source.identity() == {
        "dataset": "some/data",
        "config": "config",
        "split": "test",
        "revision": "commit of v1",
        "column": "body",
        "max_documents": 2,
    }


@pytest.mark.parametrize("streaming", [False, True])
def test_a_missing_column_of_a_data_set(hub, streaming):
    with pytest.raises(ValueError, match="column is 'text', but 'some/data' has 'n', 'body': give one of these"):
        list(TextSource("some/data", streaming=streaming).documents())
    assert hub[0][:2] == ("some/data", None)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["nobody/nothing-here", "nothing here", "corpus.csv"])
def test_a_hub_that_cannot_be_reached(name, streaming):
    source = TextSource(name, streaming=streaming, revision="v1")
    with pytest.raises(OSError, match=rf"text is '{name}' \(revision v1\), .*has no such data set or cannot be reach"):
        list(source.documents())
    assert source.identity()["revision"] == "v1"


def test_a_folder_that_datasets_reads(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for split in ("train", "test"):
        lines = [json.dumps({"text": f"{split} {text}" if text else ""}) for text in TEXTS]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    source = TextSource(str(folder), split="test", streaming=True)  # which writes nothing to the user's cache
    assert list(source.documents()) == ["test " + text for text in (TEXTS[0], *TEXTS[2:])]
    identity = source.identity()
    assert identity["dataset"] == "corpus"
    assert identity == source.identity()
    (folder / "test.jsonl").write_text('{"text": "another"}')
    assert identity != source.identity()
    with pytest.raises(ValueError, match=r"split is 'dev', and `datasets` cannot load that: .*dev"):
        list(TextSource(str(folder), split="dev", streaming=True).documents())
    with pytest.raises(ValueError, match=r"`datasets` cannot load that: .*'no-such'"):
        list(TextSource(f"{folder}:no-such", streaming=True).documents())

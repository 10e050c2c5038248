"""`sparsecode cache`, killed and run again: the store ends as that of a run that was not killed, byte by byte."""

import json
from pathlib import Path

from sparsecode_pl.data import Store


def check_partial(store: Path, whole: dict[str, bytes], contents) -> int:
    """What a killed run has left can be read, and its finished shards are those of the whole store; their number."""
    if not (store / "manifest.json").is_file():
        return 0
    found = contents(store)
    for shard in json.loads(found["manifest.json"])["shards"]:
        for name in shard["files"]:
            assert found[name] == whole[name], name
    return Store(store, partial=True, verify=True).num_rows


def test_killed_again_and_again_it_is_the_same_store(
    server, cache_words, whole_store, tmp_path, contents, moments, long, counted
):
    whole = contents(whole_store.folder / "store")
    for trial in range(12 if long else 1):
        folder = tmp_path / str(trial)
        folder.mkdir()
        kept = 0
        for _ in range(5 if long else 2):
            run = server.start(folder, *cache_words("store"), **moments(whole_store.changes // 2))
            if run.died():
                rows = check_partial(folder / "store", whole, contents)
                assert rows >= kept, "rows that were safe are gone"
                kept = rows
                counted("kills: cache", f"killed with {rows:,} of 6,000 rows")
        run = server.start(folder, *cache_words("store"))
        assert run.end() == 0, run.said
        assert contents(folder / "store") == whole
        counted("kills: cache", "ended as the uninterrupted run")

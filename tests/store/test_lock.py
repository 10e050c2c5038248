import pytest
import torch

from sparsecode_pl.data import Store, StoreWriter
from sparsecode_pl.store.lock import StoreBusyError


def test_a_store_has_one_writer_at_a_time(tmp_path):
    with StoreWriter(tmp_path / "store", {"0": 2}) as writer:
        with pytest.raises(StoreBusyError, match=r"another writer has the store at .* open: wait until it is done"):
            StoreWriter(tmp_path / "store", {"0": 2})
        writer.append({"0": torch.ones(3, 2)}, {})
        writer.end_shard()
    with StoreWriter(tmp_path / "store", {"0": 2}) as writer:
        assert writer.num_rows == 3
        writer.finish()
    assert Store(tmp_path / "store", verify=True).num_rows == 3


def test_a_writer_that_was_refused_holds_nothing(tmp_path):
    StoreWriter(tmp_path / "store", {"0": 2}).__exit__(None, None, None)
    with pytest.raises(ValueError, match="layers is"):
        StoreWriter(tmp_path / "store", {"0": 3})
    with StoreWriter(tmp_path / "store", {"0": 2}) as writer:
        assert not writer.complete

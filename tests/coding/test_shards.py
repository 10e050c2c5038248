import pytest
import torch

from sparsecode_pl.coding import load_codes, save_codes


def shard(dense, rows, path):
    save_codes(path, dense[rows].to_sparse_csr(), torch.tensor(rows))


def test_shards_load_back_in_the_order_of_the_rows(tmp_path):
    dense = torch.rand(7, 5) * (torch.rand(7, 5) < 0.4)
    dense[3] = 0
    shard(dense, [0, 2, 4, 6], tmp_path / "codes-0000-000000.safetensors")
    shard(dense, [5, 3, 1], tmp_path / "codes-0001-000000.safetensors")
    loaded = load_codes(tmp_path)
    assert loaded.layout == torch.sparse_csr
    assert torch.equal(loaded.to_dense(), dense)


def test_missing_and_doubled_rows_are_refused(tmp_path):
    dense = torch.rand(4, 3)
    shard(dense, [0, 1, 3], tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="3 rows, but not each of rows 0 to 2: predict again"):
        load_codes(tmp_path)
    shard(dense, [1, 2], tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="5 rows"):
        load_codes(tmp_path)


def test_empty_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no \.safetensors shards"):
        load_codes(tmp_path)

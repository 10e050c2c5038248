import pytest
import torch

from sparsecode_pl.data import MemoryWriter


def test_it_gathers_what_a_store_would_hold(block, whole):
    rows, columns = whole()
    with MemoryWriter({"0": 3, "model.mlp": 5}, ["token", "position"]) as writer:
        for shard in range(3):
            for number in range(shard + 1):
                writer.append(*block(100 * shard + 10 * number, 10))
            assert writer.num_rows == [0, 10, 30][shard]
            writer.end_shard()
            assert writer.num_shards == 0
        writer.finish(dropped=4)
    assert writer.complete
    assert (writer.num_shards, writer.num_rows, writer.facts) == (1, 60, {"dropped": 4})
    assert all(torch.equal(writer.rows(layer), x) for layer, x in rows.items())
    assert all(torch.equal(writer.columns()[name], x) for name, x in columns.items())
    with pytest.raises(RuntimeError, match="is finished"):
        writer.append(*block(0, 10))


def test_what_is_appended_may_be_overwritten_afterwards():
    writer = MemoryWriter({"0": 2}, ["token"])
    x, token = torch.ones(3, 2), torch.ones(3, dtype=torch.int32)
    writer.append({"0": x}, {"token": token})
    x.zero_()
    token.zero_()
    writer.finish()
    assert torch.equal(writer.rows("0"), torch.ones(3, 2))
    assert writer.columns()["token"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_rows_are_float32(dtype):
    writer = MemoryWriter({"0": 2})
    x = torch.randn(3, 2).to(dtype)
    writer.append({"0": x}, {})
    writer.finish()
    assert writer.rows("0").dtype == torch.float32
    assert torch.equal(writer.rows("0"), x.float())


def test_nothing_gathered_is_an_error():
    with pytest.raises(ValueError, match="got no rows"):
        MemoryWriter({"0": 2}).finish()

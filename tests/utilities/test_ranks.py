import os

import pytest
import torch.distributed
import torch.multiprocessing

from sparsecode_pl.utilities.ranks import from_all_ranks, from_rank_zero, num_ranks


def test_alone_it_is_the_function_itself():
    assert from_rank_zero(lambda: 7) == 7
    assert (from_all_ranks(7), num_ranks()) == ([7], 1)
    with pytest.raises(ValueError, match="no"):
        from_rank_zero(lambda: (_ for _ in ()).throw(ValueError("no")))


def _process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)

    def fail() -> None:
        raise ValueError(f"of rank {rank}")

    value = from_rank_zero(lambda: 10 + rank)
    try:
        from_rank_zero(fail)
    except ValueError as error:
        value = f"{value} {error}, {from_all_ranks(rank)} of {num_ranks()}"
    with open(os.path.join(folder, str(rank)), "w") as file:  # noqa: PTH118, PTH123
        file.write(str(value))
    torch.distributed.destroy_process_group()


def test_all_processes_get_what_the_first_one_computes_or_raises(tmp_path):
    torch.multiprocessing.start_processes(_process, (str(tmp_path),), nprocs=2, start_method="fork")
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["10 of rank 0, [0, 1] of 2"] * 2

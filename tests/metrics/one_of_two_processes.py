"""A script, run by test_two_processes.py once per rank: update metrics with this rank's batches, compute together."""

import sys
from pathlib import Path

import torch
from torch.distributed import barrier, destroy_process_group, init_process_group


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    metrics, batches, atoms = torch.load(folder / "inputs.pt", weights_only=False)
    for batch in batches[rank]:
        metrics.update(**batch, atoms=atoms)
    torch.save(metrics.compute(), folder / f"result_{rank}.pt")
    barrier()  # neither leaves while the other still listens to it
    destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

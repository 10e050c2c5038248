"""Fits, measurements and scores in two processes against the same in one. Each process imports torch: few serve all."""

import socket
import sys

import pytest
import torch
from safetensors.torch import save_file
from sparsecode_synthetic import SparseLinear
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparsecode_pl.cli import main
from sparsecode_pl.data import BUCKETS, SourceActivations, TensorSource, generator, write_store
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.measurement import load_results
from sparsecode_pl.measurement.intervals import replicates_of, take_sums
from sparsecode_pl.measurement.shares import score_rows
from sparsecode_pl.scoring import Scores

# An odd number of training rows, so that the processes have unequal shares of them.
ROWS = ["--data=SparseLinear", "--data.d_model=16", "--data.num_features=32", "--data.num_samples=1001"]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
ROUNDS = ["--data.batch_size=128", "--data.batches_per_round=16", "--trainer.max_epochs=3", "--model.expansion=4"]
FIT = [*ROWS, "--data.active=1.5", *ROUNDS, *QUIET]
# Atoms that are not trained, so that the scores differ by rounding alone.
TEXT = ["--data=ActivationStore", "--data.path=text", "--model.learn=false", "--model.lam=0.5", "--model.num_atoms=24"]
# It is the first, whose second process starts when the first one has made the folder of the run.
SAE = ["measure", *ROWS, "--data.active=1.5", *QUIET, "--model.expansion=2", "--trainer.max_epochs=1", "--sae=mine"]
COMMANDS = [
    ("sae", [*SAE, "--data.batch_size=128", "--data.batches_per_round=8"]),
    ("fit", ["fit", *FIT]),
    ("measured", ["measure", *FIT, "--controls+=RandomDictionary", "--explained_variance=0.9", "--exact"]),
    ("text", ["measure", *TEXT, *QUIET, "--trainer.max_epochs=1", "--data.batches_per_round=2"]),
]
SCORES = ["S1", "L_norm", "L", "N0", "explained_variance"]
KINDS = {"train": "", "heldout": "heldout_", "unseen": "unseen_"}

pytestmark = pytest.mark.filterwarnings("ignore:.*configure_optimizers` returned `None`")


def command_lines(processes: int) -> list[list[str]]:
    """The commands in so many processes, each with a folder of its own."""
    devices = [f"--trainer.devices={processes}", *(["--trainer.strategy=ddp"] if processes > 1 else [])]
    places = {name: "--output" if words[0] == "measure" else "--trainer.default_root_dir" for name, words in COMMANDS}
    return [[*words, *devices, f"{places[name]}={name}_{processes}"] for name, words in COMMANDS]


# Lightning starts the second process, which runs the same script.
IN_TWO = """
from sparsecode_pl.cli import main
for words in {command_lines!r}:
    main(words)
"""

# Each process has its rank from torch.distributed.run.
SCORED_IN_TWO = """
import sys
import torch
from torch.distributed import destroy_process_group, get_rank, init_process_group
from sparsecode_pl import load_results, score
from sparsecode_pl.data import BUCKETS, SourceActivations, TensorSource
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.measurement import ExactCodes
from sparsecode_pl.measurement.shares import score_rows
from sparsecode_pl.scoring import Scores

init_process_group("gloo")
inputs = torch.load("inputs.pt")
dictionary = load_results("measured_1/version_0").records[0].dictionary
anew = {}
for prefix, (rows, lam) in inputs["rows"].items():
    dictionary.lam = lam
    values = score(dictionary, rows[get_rank()::2], [Scores(), ExactCodes()])
    anew |= {prefix + name: float(value) for name, value in values.items()}

rows, columns = inputs["text"]
data = SourceActivations(TensorSource(rows, columns=columns), batch_size=64, batches_per_round=30)
data.rank, data.world_size = get_rank(), 2
dictionary = Dictionary(inputs["atoms"], lam=0.5)
found = {
    "anew": anew,
    "rows": data.row_sets,
    "buckets": data.split.buckets,
    "trained": torch.cat(list(data.train_dataloader())),
    "scored": [torch.cat([index for index, _ in loader]) for loader in data.val_dataloader()],
    "values": {kind: score_rows(dictionary, data, kind, [Scores(buckets=BUCKETS)]) for kind in data.row_sets},
}
torch.save(found, f"rank_{get_rank()}.pt")
destroy_process_group()
"""


def text_rows() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Rows of text, a few of which are copies of others, with their tokens and documents."""
    random = generator(0)
    token = torch.multinomial(1 / torch.arange(1.0, 121), 1001, replacement=True, generator=random)
    place = torch.randint(20, (1001,), generator=random)
    rows = torch.randn(120, 1, 8, generator=random) + 0.5 * torch.randn(120, 20, 8, generator=random)
    return rows[token, place], {"token_id": token, "document": torch.arange(1001) // 20}


def write_autoencoder(folder) -> None:
    """Write one of sparsify's format, with random features of which three are active."""
    features = torch.nn.functional.normalize(torch.randn(32, 16, generator=generator(2)))
    tensors = {"encoder.weight": features, "encoder.bias": torch.full((32,), -0.05)}
    folder.mkdir()
    save_file(tensors | {"W_dec": features.clone(), "b_dec": torch.zeros(16)}, folder / "sae.safetensors")
    (folder / "cfg.json").write_text('{"d_in": 16, "k": 3, "num_latents": 32}')


def port() -> str:
    """A free one, for processes to meet at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory, python_in):
    """A folder in which all commands have been run in one process and in two."""
    folder = tmp_path_factory.mktemp("processes")
    rows, columns = text_rows()
    write_store(folder / "text", [{"mlp": rows, **columns}], source={"model": "tiny"})
    write_autoencoder(folder / "mine")
    (folder / "in_two.py").write_text(IN_TWO.format(command_lines=command_lines(2)))
    python_in(folder, "in_two.py", MASTER_PORT=port())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["sparsecode"])
        for words in command_lines(1):
            main(words)
    return folder


@pytest.fixture(scope="module")
def ranks(folder, python_in):
    """What each of two processes found that scored the first dictionary, and text, without Lightning."""
    data = SparseLinear(d_model=16, num_features=32, num_samples=1001, active=1.5)
    record = load_results(folder / "measured_1" / "version_0").records[0]
    rows = {
        "": (data.rows[data.train_index], record["lam"]),
        "heldout_": (data.rows[data.heldout_index], record["heldout_lam"]),
    }
    torch.save({"rows": rows, "text": text_rows(), "atoms": ATOMS}, folder / "inputs.pt")
    (folder / "scored_in_two.py").write_text(SCORED_IN_TWO)
    words = ["--nproc-per-node=2", f"--master-port={port()}", "scored_in_two.py"]
    python_in(folder, "-m", "torch.distributed.run", *words)
    return [torch.load(folder / f"rank_{rank}.pt") for rank in range(2)]


ATOMS = torch.nn.functional.normalize(torch.randn(24, 8, generator=generator(1)))


def curves(run):
    """What the one event file of a run says."""
    (events,) = run.glob("events.out.tfevents*")
    accumulated = EventAccumulator(str(events)).Reload()
    return {tag: accumulated.Scalars(tag) for tag in accumulated.Tags()["scalars"]}


def records(folder, name):
    """The records of a measurement in two processes and in one."""
    return [load_results(folder / f"{name}_{number}" / "version_0").records for number in (2, 1)]


def test_a_fit_in_two_processes_logs_once_what_a_fit_in_one_logs(folder):
    found, expected = (curves(folder / f"fit_{number}" / "lightning_logs" / "version_0") for number in (2, 1))
    assert [path.name for path in (folder / "fit_2" / "lightning_logs").iterdir()] == ["version_0"]
    assert not (folder / "lightning_logs").exists()
    assert len(list((folder / "fit_2").rglob("*.ckpt"))) == 2  # the last two
    for tag in ["lam", *(f"{rows}/{score}" for rows in ("train", "heldout") for score in SCORES)]:
        assert len(found[tag]) == len(expected[tag]), tag
        assert [each.step for each in found[tag]] == [each.step for each in expected[tag]], tag
        assert [each.value for each in found[tag]] == pytest.approx([each.value for each in expected[tag]]), tag
    atoms = [
        Dictionary.from_pretrained(folder / f"fit_{number}" / "lightning_logs/version_0/dictionary").atoms
        for number in (2, 1)
    ]
    assert torch.equal(*atoms)


def test_a_measurement_at_a_share_in_two_processes_is_that_in_one(folder):
    found, expected = records(folder, "measured")
    assert [record["data"] for record in found] == ["SparseLinear a=1.5", "RandomDictionary"]
    for record, other in zip(found, expected, strict=True):
        assert record["explained_variance"] >= 0.9
        for score in [*SCORES, "lam", "heldout_S1", "heldout_lam", "exact_S1", "heldout_exact_L_norm"]:
            close = 1e-6 if "exact" in score else 1e-9  # the exact solver may end a sweep sooner or later
            assert record[score] == pytest.approx(other[score], rel=close), score
        for gap in ("coding_gap", "heldout_coding_gap"):
            assert record[gap] == pytest.approx(other[gap], abs=1e-6), gap


def test_an_autoencoder_in_two_processes_has_the_scores_of_one(folder):
    assert [path.name for path in (folder / "sae_2").iterdir()] == ["version_0"]
    found, expected = records(folder, "sae")
    assert len(found) == 9
    assert [record["data"] for record in found] == [record["data"] for record in expected]
    for record, other in zip(found, expected, strict=True):
        for score in ("N0", "explained_variance", "heldout_S1", "heldout_L_norm", "lam"):
            assert record[score] == pytest.approx(other[score], rel=1e-4), (record["data"], score)


def test_text_in_two_processes_has_the_scores_and_the_intervals_of_one(folder):
    ((record,), (other,)) = records(folder, "text")
    for name in ("num_distinct", "num_types", "num_copies", "heldout_seen_share", "heldout_token_explained_variance"):
        assert record[name] == other[name], name
    assert record["intervals"].keys() == other["intervals"].keys()
    for prefix in KINDS.values():
        assert record[f"{prefix}num_samples"] == other[f"{prefix}num_samples"] > 20
        for name in (prefix + score for score in SCORES):
            assert record[name] == pytest.approx(other[name], rel=1e-6), name
            assert record["intervals"][name] == pytest.approx(other["intervals"][name], rel=1e-5), name


def test_on_two_processes_the_dictionary_gives_the_scores_of_its_record(folder, ranks):
    record = load_results(folder / "measured_1" / "version_0").records[0]
    for rank in ranks:
        assert len(rank["anew"]) == 2 * (5 + 7)
        for name, found in rank["anew"].items():
            exact = "exact" in name or "gap" in name  # which may end a sweep sooner or later
            assert found == pytest.approx(record[name], rel=1e-4 if exact else 1e-6, abs=1e-5), name


def test_two_processes_split_text_as_one_does(ranks):
    rows, columns = text_rows()
    alone = SourceActivations(TensorSource(rows, columns=columns), batch_size=64)
    assert list(alone.row_sets) == list(KINDS)
    for rank in ranks:
        assert rank["rows"].keys() == alone.row_sets.keys()
        assert all(torch.equal(rank["rows"][kind], index) for kind, index in alone.row_sets.items())
        assert torch.equal(rank["buckets"], alone.split.buckets)
    for kind, *parts in zip(KINDS, *(rank["scored"] for rank in ranks), strict=True):
        assert torch.equal(torch.cat(parts).sort().values, alone.row_sets[kind])  # each once


def test_no_group_and_no_equal_rows_are_on_two_sides_in_two_processes(ranks):
    rows, columns = text_rows()
    number = {tuple(row): index for index, row in enumerate(rows.tolist())}  # of one of the equal rows
    trained = torch.tensor([number[tuple(row)] for rank in ranks for row in rank["trained"].tolist()])
    _, heldout, unseen = (torch.cat(parts) for parts in zip(*(rank["scored"] for rank in ranks), strict=True))
    for index in (heldout, unseen):
        assert not {tuple(row) for row in rows[index].tolist()} & {tuple(row) for row in rows[trained].tolist()}
    assert not set(columns["token_id"][unseen].tolist()) & set(columns["token_id"][trained].tolist())
    assert set(columns["token_id"][heldout].tolist()) <= set(columns["token_id"][trained].tolist())
    train = torch.cat([rank["rows"]["train"] for rank in ranks])
    assert not set(columns["document"][heldout].tolist()) & set(columns["document"][train].tolist())


def test_two_processes_have_the_sums_of_one(ranks):
    rows, columns = text_rows()
    alone = SourceActivations(TensorSource(rows, columns=columns), batch_size=64)
    for kind in KINDS:
        expected = score_rows(Dictionary(ATOMS, lam=0.5), alone, kind, [Scores(buckets=BUCKETS)])
        intervals = {name: each.interval for name, each in replicates_of(take_sums(dict(expected), kind)).items()}
        for rank in ranks:
            found = rank["values"][kind]
            for name, value in expected.items():
                torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-6)
            for name, each in replicates_of(take_sums(dict(found), kind)).items():
                assert each.interval == pytest.approx(intervals[name], rel=1e-5), name

"""Damaged and hostile files: each is refused in words of our own, or what is read is what was written."""

import io
import json
import math
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import strategies as st
from lightning import Trainer
from rich.console import Console
from sparsecode_synthetic import SparseLinear
from sparsecode_transformer.text import TextSource

from sparsecode_pl import Dictionary, SparseCodingModule, load_results
from sparsecode_pl.coding import load_codes, save_codes
from sparsecode_pl.data import ActivationStore, Store, generator, write_store
from sparsecode_pl.dictionary import Card
from sparsecode_pl.measurement import Fit, Record, Results
from sparsecode_pl.measurement.compare import with_ratios
from sparsecode_pl.measurement.picture import draw
from sparsecode_pl.measurement.record import Level
from sparsecode_pl.measurement.report import print_table

from .damage import DAMAGE, JSON_WAY, ODD, Trap, damage, ends, fresh_copy


@pytest.fixture
def harmed(tmp_path, attempt) -> Callable[..., Any]:
    """Reads a copy of a folder after damage to one of its files; None if it was refused. No file may be executed."""
    trap = tmp_path / "trap"

    def harmed(suite: str, folder: Path, case: tuple[int, ...], read: Callable[[Path], Any], pattern: str = "*") -> Any:
        copy = fresh_copy(folder, tmp_path / "copy")
        damage(copy, case, trap, pattern)
        with ends():
            answer = attempt(suite, lambda: read(copy))
        assert not trap.exists(), "a pickle was run"
        return answer

    return harmed


def _rows() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {"a": random.normal(size=(40, 3)), "b": random.normal(size=(40, 2)), "token": np.arange(40)}


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    """A complete store of two layers, a column and two shards."""
    return write_store(tmp_path_factory.mktemp("store") / "store", [_rows()], source={"model": "m"}, shard_rows=25)


def _read_store(path: Path, verify: bool) -> dict[str, torch.Tensor]:
    found = Store(path, verify=verify)
    return {**{name: found.rows(name)[:] for name in found.layers}, **found.columns()}


def _same_store(found: dict[str, torch.Tensor]) -> None:
    rows = _rows()
    assert {name for name in found if found[name].ndim == 2} == {"a", "b"}
    for name, x in found.items():
        torch.testing.assert_close(x, torch.from_numpy(rows[name]).to(x.dtype), rtol=0, atol=0)


def test_verified_stores(store, harmed, fuzz):
    @fuzz(DAMAGE, cases=40, many=700)
    def _(case):
        found = harmed("store, verified", store, case, lambda path: _read_store(path, verify=True))
        if found is not None:
            _same_store(found)


def test_stores(store, harmed, fuzz):
    """Without verification other values may go unnoticed; their number and their being finite may not."""

    @fuzz(DAMAGE, cases=40, many=400)
    def _(case):
        found = harmed("store", store, case, lambda path: _read_store(path, verify=False))
        if found is not None:
            for name, x in found.items():
                assert x.shape == _rows()[name].shape
                assert torch.isfinite(x).all()


def test_stores_that_change_after_they_were_opened(store, fuzz, attempt, tmp_path):
    @fuzz(DAMAGE, cases=20, many=200)
    def _(case):
        copy = fresh_copy(store, tmp_path / "copy")
        data = ActivationStore(str(copy), layer="a")
        damage(copy, case, tmp_path / "trap", "*.safetensors")
        found = attempt("store, opened before", lambda: (data.rows[torch.tensor([39, 0])], data.source.columns))
        if found is not None:
            assert found[0].shape == (2, 3)
            assert len(found[1]["token"]) == 40


def test_stores_that_are_written_on(store, harmed, fuzz):
    """A damaged store is not gone on with, or becomes the store that was meant."""

    def write_on(path: Path) -> dict[str, torch.Tensor]:
        write_store(path, [_rows()], source={"model": "m"}, shard_rows=25)
        return _read_store(path, verify=True)

    @fuzz(DAMAGE, cases=20, many=300)
    def _(case):
        found = harmed("store, written on", store, case, write_on)
        if found is not None:
            _same_store(found)


_SCORES = ("S1", "L_norm", "N0", "L", "explained_variance", "num_samples")


def _fit(folder: Path, seed: int) -> Fit:
    """A fit with made-up scores at two shares of the variance, which no reader can tell from measured ones."""
    random = np.random.default_rng(seed)
    scores = {f"{kind}{name}": float(random.uniform(1, 9)) for kind in ("", "heldout_") for name in _SCORES}
    scores |= {"lam": 0.1, "heldout_lam": 0.2, "train_lam": 0.1, "atoms_alive": 9, "num_atoms": 9, "rounds": 1}
    scores |= {"num_distinct": 90, "num_copies": 0, "seconds": 1.5, "dead_atoms": 0, "half_active": 0.75}
    scores |= {"oracle_S1": 1.5, "atom_recovery": 0.9, "matched_recovery": 0.9, "matched_recovery_chance": 0.6}
    scores |= {"support_precision": 0.8, "support_recall": math.nan}
    sums = {f"{kind}sums": random.uniform(1, 9, (20, 9)) for kind in ("", "heldout_")}
    fit = Fit(seed, folder / f"seed_{seed}", scores, scores, None, sums, (Level(0.5, scores, sums), Level(0.6, scores)))
    fit.write()
    return fit


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """The folder of a measurement: data, a control, and another that failed."""
    folder = tmp_path_factory.mktemp("run")
    data, control = ((_fit(folder / name, 0), _fit(folder / name, 1)) for name in ("data", "control"))
    source = with_ratios(Record("SparseLinear", data))
    failed = Record("Failed", (Fit(0, folder / "failed", error="ValueError: no"),), control_of="SparseLinear")
    records = [source, with_ratios(Record("Gaussian", control, control_of="SparseLinear"), source), failed]
    Results(folder, tuple(records), {"model": {"lam": None}}).write()
    return folder


@pytest.fixture(scope="session")
def dictionary(tmp_path_factory) -> Path:
    """The folder of a dictionary."""
    folder = tmp_path_factory.mktemp("dictionary")
    card = Card("data", "model", "3", {"text": "some"}, {"train": 9}, 0, {"torch": "2"}, {"S1": 2.0, "N0": math.nan})
    card = replace(card, controls={"noise": {"S1": 3.0}}, intervals={"S1": (1.0, 3.0)})
    Dictionary.random(9, 6, generator(0), centre=torch.ones(6), lam=0.1, card=card).save_pretrained(folder)
    return folder


def test_dictionaries(dictionary, harmed, fuzz):
    whole = Dictionary.from_pretrained(dictionary)
    x = torch.randn(5, 6, generator=generator(0))

    @fuzz(DAMAGE, cases=60, many=800)
    def _(case):
        def read(path: Path) -> Dictionary:
            found = Dictionary.from_pretrained(path)
            found.save_pretrained(path / "again")
            return found

        found = harmed("dictionary", dictionary, case, read)
        if found is not None:
            for name in ("atoms", "centre", "scale"):
                assert torch.equal(getattr(found, name), getattr(whole, name))
            assert math.isnan(found.lam) or (math.isfinite(found.lam) and found.lam > 0)
            codes = found.encode(x, lam=0.1).to_dense()
            assert torch.isfinite(codes).all()
            assert (codes >= 0).all()


def test_codes(tmp_path_factory, harmed, fuzz):
    folder = tmp_path_factory.mktemp("codes")
    dense = torch.rand(7, 5, generator=generator(0))
    dense[dense < 0.6] = 0
    for number, index in enumerate([torch.tensor([0, 2, 4, 6]), torch.tensor([1, 3, 5])]):
        save_codes(folder / f"codes-{number}.safetensors", dense[index].to_sparse_csr(), index)

    @fuzz(DAMAGE, cases=60, many=500)
    def _(case):
        found = harmed("codes", folder, case, load_codes)
        if found is not None:
            assert torch.equal(found.to_dense(), dense)


def test_results(run, harmed, fuzz):
    console = Console(file=io.StringIO(), width=140)

    def read(path: Path) -> Any:
        results = load_results(path)
        print_table(results.records, console)
        results.write()
        return load_results(path)

    @fuzz(DAMAGE, cases=60, many=700)
    def _(case):
        results = harmed("results", run, case, read, "results.json")
        if results is not None:
            for record in results.records:
                for fit in record.fits:
                    assert fit.folder is None or fit.folder.is_relative_to(results.folder)
                    assert all(isinstance(value, int | float) for value in fit.scores.values())


def test_pictures_of_results(run, harmed, fuzz):
    def read(path: Path) -> None:
        draw(load_results(path).records, path / "picture.png")

    @fuzz(DAMAGE, cases=4, many=150)
    def _(case):
        harmed("picture", run, (JSON_WAY, *case[1:]), read, "results.json")


def test_fits(run, harmed, fuzz):
    """A fit that is resumed is whole, or is made again."""
    whole = {path.parent.relative_to(run): Fit.read(path.parent) for path in run.rglob("fit.json")}

    def read(path: Path) -> None:
        for name, fit in whole.items():
            found = Fit.read(path / name)
            if found is not None:
                assert all(isinstance(value, int | float) for value in found.scores.values())
                assert len(found.replicates) in (0, len(fit.replicates))
                for one, values in found.replicates.items():
                    np.testing.assert_array_equal(values.values, fit.replicates[one].values)

    @fuzz(DAMAGE, cases=40, many=300)
    def _(case):
        harmed("fit", run, case, read, "[fs][iu][tm]*.*")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """The folder of a checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint")
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger", "enable_checkpointing"), False)
    trainer = Trainer(max_epochs=1, accelerator="cpu", num_sanity_val_steps=0, **quiet)
    data = SparseLinear(d_model=6, num_features=8, active=1.5, num_samples=90, batch_size=30, batches_per_round=2)
    trainer.fit(SparseCodingModule(6, 9, lam=0.1), datamodule=data)
    trainer.save_checkpoint(folder / "some.ckpt")
    return folder


def test_checkpoints(checkpoint, harmed, fuzz):
    whole = Dictionary.from_checkpoint(checkpoint / "some.ckpt")

    @fuzz(DAMAGE, cases=40, many=400)
    def _(case):
        found = harmed("checkpoint", checkpoint, case, lambda path: Dictionary.from_checkpoint(path / "some.ckpt"))
        if found is not None:
            assert torch.equal(found.atoms, whole.atoms)
            assert found.lam == whole.lam


def test_checkpoints_with_other_content(checkpoint, attempt, fuzz, tmp_path):
    """Whole files that hold something else than a checkpoint."""
    names = ["dictionary.atoms", "dictionary.centre", "dictionary.scale", "lam", "dictionary.penalty"]
    odd = [
        *ODD,
        torch.zeros(0),
        torch.zeros(9, 6),
        torch.full((9, 6), math.nan),
        torch.eye(6).to_sparse(),
        [torch.eye(3)],
    ]

    @fuzz(
        st.sampled_from(["", "state_dict", "hyper_parameters", "card", *names]),
        st.sampled_from(odd),
        cases=30,
        many=300,
    )
    def _(name, value):
        content = torch.load(checkpoint / "some.ckpt", weights_only=True)
        if name in names:
            content["state_dict"][name] = value
        elif name:
            content[name] = value
        else:
            content = value
        torch.save(content, tmp_path / "odd.ckpt")
        with ends():
            codes = attempt(
                "checkpoint, other content",
                lambda: Dictionary.from_checkpoint(tmp_path / "odd.ckpt").encode(torch.ones(2, 6)),
            )
        assert codes is None or torch.isfinite(codes.values()).all()


def test_text(tmp_path_factory, harmed, fuzz):
    folder = tmp_path_factory.mktemp("text")
    documents = [f"A sentence, numbër {number}." for number in range(9)]
    (folder / "a.txt").write_text("\n".join(documents), encoding="utf-8")
    (folder / "b.jsonl").write_text("\n".join(json.dumps({"text": each}) for each in documents))
    pq.write_table(pa.table({"text": documents}), folder / "c.parquet")

    @fuzz(DAMAGE, st.sampled_from(["a.txt", "b.jsonl", "c.parquet"]), cases=40, many=500)
    def _(case, name):
        found = harmed("text", folder, case, lambda path: list(TextSource(str(path / name)).documents()), name)
        assert found is None or all(isinstance(each, str) and each.strip() for each in found)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_never_run(protocol, tmp_path, attempt):
    trap = tmp_path / "trap"
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps({"state_dict": Trap(trap)}, protocol=protocol))
    with zipfile.ZipFile(tmp_path / "zipped.ckpt", "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({"state_dict": Trap(trap)}, protocol=protocol))
        file.writestr("archive/version", "3")
    torch.save(
        {"state_dict": Trap(trap), "hyper_parameters": {}}, tmp_path / "saved.ckpt", pickle_protocol=protocol or 2
    )
    for name in ("evil", "zipped", "saved"):
        assert attempt("pickle", lambda name=name: Dictionary.from_checkpoint(tmp_path / f"{name}.ckpt")) is None
    assert not trap.exists()
    pickle.loads((tmp_path / "evil.ckpt").read_bytes())  # noqa: S301  # the trap works
    assert trap.exists()

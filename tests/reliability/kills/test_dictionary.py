"""A dictionary that is saved over another: the folder always holds one of the two, whole."""

import shutil
from pathlib import Path
from random import Random

import pytest
import torch

from sparsecode_pl import Dictionary
from sparsecode_pl.dictionary import Card


def _make(folder: Path, number: int, size: int = 16) -> Path:
    atoms = torch.nn.functional.normalize(torch.randn(size, 8, generator=torch.Generator().manual_seed(number)))
    Dictionary(atoms, lam=float(number), card=Card(data=f"data {number}", seed=number)).save_pretrained(folder)
    return folder


def _which(folder: Path, made: list[Path]) -> int:
    """Which of these dictionaries a folder holds: atoms, penalty and card are those of the same one."""
    found = Dictionary.from_pretrained(folder)
    for number, path in enumerate(made):
        one = Dictionary.from_pretrained(path)
        if torch.equal(found.atoms, one.atoms):
            assert found.lam == one.lam
            assert found.card == one.card
            return number
    raise AssertionError("none of them")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> list[Path]:
    return [_make(tmp_path_factory.mktemp("made") / str(number), number) for number in (1, 2, 3)]


@pytest.fixture
def work(tmp_path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_killed_before_any_change_in_one_save_and_in_the_next(server, made, work, long, counted):
    run = server.start(work, str(made[0]), "steps", task="save_dictionary")
    assert run.end() == 0
    steps = range(1, run.changes + 1)
    folder = work / "dictionary"
    assert len(steps) > 6
    # In the short form the first dies when the weights are replaced and the rest is not, which is the worst moment.
    for first in steps if long else steps[-2:-1]:
        for second in steps if long else steps[1:5]:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(made[0], folder)
            for number, step, allowed in ((1, first, (0, 1)), (2, second, (0, 1, 2))):
                server.start(work, str(made[number]), "dictionary", task="save_dictionary", at=step).end()
                assert _which(folder, made) in allowed, f"killed before change {first}, then {second}"
                counted("kills: dictionary", "killed before a change, whole")
            assert server.start(work, str(made[1]), "dictionary", task="save_dictionary").end() == 0
            assert _which(folder, made) == 1
            assert not list(folder.glob("*.partial"))


def test_killed_while_it_writes_many_bytes(server, made, work, long, counted, tmp_path):
    if not long:
        pytest.skip("long form only")
    random = Random(0)  # noqa: S311
    big = [_make(tmp_path / f"big {number}", number, 2**20) for number in (1, 2)]  # 32 MB
    folder = work / "dictionary"
    shutil.copytree(big[0], folder)
    for trial in range(60):
        moment = {"at": random.randint(1, 7), "after": random.uniform(0, 0.1)}
        run = server.start(work, str(big[trial % 2]), "dictionary", task="save_dictionary", **moment)
        if run.died():
            new = _which(folder, big) == trial % 2
            counted("kills: dictionary", f"killed in a save of 32 MB, {'the new' if new else 'the old'} one is whole")
        else:
            assert _which(folder, big) == trial % 2
            counted("kills: dictionary", "saved before the kill")

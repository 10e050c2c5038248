import importlib.metadata
import sys

import numpy as np
import pytest
import torch

from sparsecode_pl.coding import (
    BoundCoder,
    Coder,
    GreedyCoder,
    LassoCoder,
    base,
    csr_codes,
    greedy_encode,
    lasso_encode,
)

GREEDY = "sparsecode_pl.coding.GreedyCoder"


def problem(n=50, m=40, d=8, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=dtype)
    return x, torch.nn.functional.normalize(torch.randn(m, d, generator=generator, dtype=dtype), dim=1)


class Watching(Coder):
    """A third party's coder: one method, which notes in what state it is called."""

    def __init__(self, size: float = 1.0) -> None:
        self.size = size

    def encode(self, x, lam, bound):
        modes = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        seen.append((x.requires_grad, bound.atoms.requires_grad, *modes))
        col, values = torch.zeros(len(x), dtype=torch.int64), x.new_full((len(x),), self.size)
        return csr_codes(torch.arange(len(x) + 1), col, values, len(bound.atoms))


seen: list[tuple[bool, ...]] = []


@pytest.mark.parametrize("coder", [GreedyCoder(), LassoCoder()], ids=["greedy", "lasso"])
def test_bound_and_single_calls_give_the_same_codes(coder):
    x, atoms = problem()
    bound = coder.bind(atoms)
    assert isinstance(bound, BoundCoder)
    assert bound.coder is coder
    single = coder(x, atoms, 0.3)
    for _ in range(2):
        torch.testing.assert_close(bound(x, 0.3).to_dense(), single.to_dense())
    torch.testing.assert_close(bound.gram, atoms @ atoms.T)


def test_the_gram_matrix_is_formed_late_once_and_again_when_the_atoms_have_changed(monkeypatch):
    formed = []
    monkeypatch.setattr(base, "gram_matrix", lambda atoms, memory: formed.append(memory) or atoms @ atoms.T)
    x, atoms = problem()
    bound = GreedyCoder(memory=10**6).bind(atoms)
    assert formed == []
    first = bound(x, 0.3)
    bound(x, 0.2)
    assert bound.gram is bound.gram
    assert formed == [10**6]
    atoms.copy_(atoms.flip(0).clone())
    again = bound(x, 0.3)
    assert len(formed) == 2
    torch.testing.assert_close(again.to_dense().flip(1), first.to_dense())


def test_there_is_no_gram_matrix_for_a_single_call_or_where_it_does_not_fit():
    x, atoms = problem()
    assert GreedyCoder().bind(atoms, reuse=False).gram is None
    small = GreedyCoder(memory=100).bind(atoms)
    assert small.gram is None
    torch.testing.assert_close(small(x, 0.3).to_dense(), GreedyCoder()(x, atoms, 0.3).to_dense())


def test_a_second_solver_can_share_the_gram_matrix():
    x, atoms = problem()
    bound = GreedyCoder().bind(atoms)
    exact = lasso_encode(x, bound.atoms, 0.3, warm_start=bound(x, 0.3), gram=bound.gram)
    assert exact.gap.max() <= 1e-4


def test_it_may_be_bound_in_inference_mode_and_used_outside():
    x, atoms = problem()
    expected = greedy_encode(x, atoms, 0.3).to_dense()
    with torch.inference_mode():
        bound = GreedyCoder().bind(atoms)
        inside = bound(x, 0.3).to_dense()
        own = GreedyCoder().bind(atoms.clone())
        own(x.clone(), 0.3)
    torch.testing.assert_close(bound(x, 0.3).to_dense(), expected)
    torch.testing.assert_close(own(x, 0.3).to_dense(), expected)
    torch.testing.assert_close(inside.clone(), expected)


def test_the_guard_stands_before_a_third_partys_coder():
    x, atoms = problem()
    seen.clear()
    with torch.autocast("cpu", torch.bfloat16):
        codes = Watching()(x.requires_grad_(), atoms.requires_grad_(), 0.3)
    assert seen == [(False, False, False, False)]
    assert not codes.requires_grad


@pytest.mark.parametrize("path", ["GreedyCoder", "coder.GreedyCoder"])
def test_built_in_coders_are_found_by_both_names(path):
    made = Coder.from_settings({"class_path": f"sparsecode_pl.coding.{path}", "init_args": {"max_atoms": 3}})
    assert type(made) is GreedyCoder
    assert made.max_atoms == 3


def test_an_imported_coder_of_a_third_party_is_made_again():
    again = Coder.from_settings(Watching(2.0).settings())
    assert type(again) is Watching
    assert again.size == 2.0


def test_settings_are_plain():
    size = Watching(np.float32(2)).settings()["init_args"]["size"]
    assert (size, type(size)) == (2.0, float)


def test_settings_import_and_run_nothing(tmp_path, monkeypatch):
    (tmp_path / "evil_coders.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    no_class = "sparsecode_pl.coding.Coder.settings"
    for path in ("evil_coders.Evil", "subprocess.Popen", "os.system", no_class, "nothing", ""):
        with pytest.raises(ValueError, match=r"coder is .* not a known coder: import the package"):
            Coder.from_settings({"class_path": path, "init_args": {"args": ["true"]}})
    assert "evil_coders" not in sys.modules


def test_an_entry_point_lets_a_coder_be_found(tmp_path, monkeypatch):
    (tmp_path / "their_coders.py").write_text(
        "from sparsecode_pl.coding import GreedyCoder\nclass Theirs(GreedyCoder):\n    pass\nNo = int\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        importlib.metadata.EntryPoint("Theirs", "their_coders:Theirs", base.CODERS),
        importlib.metadata.EntryPoint("No", "their_coders:No", base.CODERS),
    ]
    monkeypatch.setattr(base, "entry_points", lambda group: points if group == base.CODERS else [])
    for path in ("Theirs", "their_coders.Theirs"):
        assert Coder.from_settings({"class_path": path, "init_args": {"max_atoms": 2}}).max_atoms == 2
    with pytest.raises(ValueError, match="coder is 'No', which is not a known coder"):
        Coder.from_settings({"class_path": "No"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"class_path": GREEDY, "init_args": {"most": 3}},
            r"GreedyCoder does not take .*most",
        ),
        (
            {"class_path": GREEDY, "init_args": {"max_atoms": "a"}},
            "max_atoms is 'a': give an integer or None",
        ),
        ({"class_path": GREEDY, "init_args": {"max_atoms": 0}}, "max_atoms is 0"),
        ({"class_path": "sparsecode_pl.coding.MatchingPursuitCoder"}, "missing a required argument: 'k'"),
        ({"class_path": "sparsecode_pl.coding.Coder"}, "does not take"),
        ({"init_args": {}}, "give a class_path"),
        ({"class_path": GREEDY, "init_args": [3]}, "give a class_path"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Coder.from_settings(settings)

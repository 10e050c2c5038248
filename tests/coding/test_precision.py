import threading

import pytest
import torch

from sparsecode_pl import Dictionary, score
from sparsecode_pl.coding import (
    GreedyCoder,
    LassoCoder,
    MatchingPursuitCoder,
    RefinedCoder,
    greedy,
    greedy_encode,
    lasso,
    lasso_encode,
)
from sparsecode_pl.coding.precision import full_precision
from sparsecode_pl.measurement.exact import ExactCodes
from sparsecode_pl.measurement.penalty import largest_penalty
from sparsecode_pl.metrics.functional import atom_recovery
from sparsecode_pl.scoring import Scores

CPU = torch.device("cpu")
MATMULS = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
pytestmark = pytest.mark.skipif(not hasattr(MATMULS[0], "fp32_precision"), reason="this PyTorch has the old API only")


def state():
    return [place.fp32_precision for place in MATMULS]


@pytest.fixture(autouse=True)
def unchanged():
    before = state()
    yield
    for place, value in zip(MATMULS, before, strict=True):
        place.fp32_precision = value
    torch.set_float32_matmul_precision("highest")
    torch.backends.fp32_precision = "none"


def by_old_api():
    torch.set_float32_matmul_precision("medium")


def by_older_api():
    torch.backends.cuda.matmul.allow_tf32 = True


def by_general_setting():
    for place in MATMULS:
        place.fp32_precision = "none"  # follows the general setting
    torch.backends.fp32_precision = "tf32"


def by_new_api():
    MATMULS[0].fp32_precision = "tf32"
    MATMULS[1].fp32_precision = "bf16"


@pytest.mark.parametrize("allow", [by_old_api, by_older_api, by_new_api, by_general_setting])
def test_products_are_full_inside_and_as_allowed_afterwards(allow):
    allow()
    before = state()
    assert "tf32" in before
    with full_precision(CPU):
        assert set(state()) <= {"none", "ieee"}
        with full_precision(CPU):
            pass
        assert set(state()) <= {"none", "ieee"}
    assert state() == before
    with pytest.raises(ZeroDivisionError), full_precision(CPU):
        raise ZeroDivisionError
    assert state() == before


def test_the_last_of_several_threads_sets_it_back():
    by_new_api()
    inside, leave = threading.Event(), threading.Event()

    def other():
        with full_precision(CPU):
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with full_precision(CPU):
        thread.start()
        inside.wait()
    assert set(state()) <= {"none", "ieee"}
    leave.set()
    thread.join()
    assert state() == ["tf32", "bf16"]


def find(way, x, atoms):
    if way == "coder":
        return GreedyCoder(backend="torch").bind(atoms)(x, 0.3)
    if way == "lasso coder":
        return LassoCoder(backend="torch", tol=1e-2)(x, atoms, 0.3)
    if way == "lasso":
        return lasso_encode(x, atoms, 0.3, backend="torch", tol=1e-2).codes
    return greedy_encode(x, atoms, 0.3, backend="torch")


@pytest.mark.parametrize("way", ["coder", "lasso coder", "greedy", "lasso"])
def test_every_door_computes_in_full_precision_and_without_autocast(way, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 128, generator=generator)
    atoms = torch.nn.functional.normalize(torch.randn(256, 128, generator=generator), dim=1)
    expected = find(way, x, atoms).to_dense()
    seen = []
    module, name = (lasso, "lasso_torch") if "lasso" in way else (greedy, "greedy_torch")
    solve = getattr(module, name)

    def watched(*arguments):
        seen.append((torch.is_autocast_enabled("cpu"), torch.is_grad_enabled(), *state()))
        return solve(*arguments)

    monkeypatch.setattr(module, name, watched)
    by_old_api()
    before = state()
    with torch.autocast("cpu", torch.bfloat16):
        codes = find(way, x.requires_grad_(), atoms.requires_grad_())
    assert state() == before
    assert all(not autocast and not grad and set(rest) <= {"none", "ieee"} for autocast, grad, *rest in seen)
    assert seen
    assert not codes.requires_grad
    assert torch.equal(codes.to_dense(), expected)
    with pytest.raises(ValueError, match="lam is -1"):
        greedy_encode(x, atoms, -1.0)
    assert state() == before


@pytest.fixture(scope="module")
def problem():
    """Samples and a dictionary, large enough for products in bfloat16 on processors that have them."""
    random = torch.Generator().manual_seed(1)
    return torch.randn(512, 512, generator=random), Dictionary.random(512, 512, random)


def coded(coder):
    return lambda x, dictionary: coder(x, dictionary.atoms, 5.0).to_dense()


def scored(x, dictionary):
    found = score(dictionary, x, [Scores(5.0)]) | score(dictionary.bind(), x[:64], [ExactCodes()])
    return torch.stack([value.double() for value in found.values()])


ANSWERS = {
    "greedy": coded(GreedyCoder()),
    "greedy torch": coded(GreedyCoder(backend="torch")),
    "greedy without Gram": coded(GreedyCoder(memory=10**7)),
    "Gram": lambda x, dictionary: GreedyCoder().bind(dictionary.atoms).gram,
    "refined": coded(RefinedCoder()),
    "refined torch": coded(RefinedCoder(backend="torch", rounds=2, sweeps=1)),
    "exact": coded(LassoCoder(tol=1e-2)),
    "exact torch": coded(LassoCoder(backend="torch", tol=1e-2)),
    "matching pursuit": coded(MatchingPursuitCoder(k=3)),
    "scores": scored,
    "penalty": lambda x, dictionary: torch.tensor(largest_penalty(dictionary, x[:64], 0.3, 5.0)),
    "recovery": lambda x, dictionary: atom_recovery(x, dictionary.atoms).mean_max_cosine,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_equal_to_the_last_digit_whatever_is_allowed(name, problem):
    x, dictionary = problem
    dictionary.lam = 5.0
    expected = ANSWERS[name](x, dictionary)
    by_old_api()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ANSWERS[name](x, dictionary), expected)

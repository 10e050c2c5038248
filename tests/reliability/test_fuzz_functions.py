"""Public functions and classes with drawn input: each case has the right answer or an error in our own words."""

import math
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from sparsecode_pl import Dictionary, score
from sparsecode_pl.coding import (
    GreedyCoder,
    LassoCoder,
    MatchingPursuitCoder,
    RefinedCoder,
    csr_codes,
    greedy_encode,
    lasso_encode,
    reconstruct,
    refined_encode,
)
from sparsecode_pl.metrics import functional
from sparsecode_pl.scoring import AtomUse, Scores

from .spoilt import HARMLESS, SPOILT, anything, fit, is_number

# Powers of ten that rows are multiplied by.
SCALES = [-38, -30, -19, -10, -4, 0, 0, 0, 0, 4, 10, 18, 30, 37]
# Penalties, in units of the rows' mean norm.
PENALTIES = [1e-12, 1e-6, 1e-3, 0.05, 0.1, 0.1, 0.1, 0.5, 1.0, 2.5, 1e12]


@dataclass
class Problem:
    """Rows, unit atoms and a penalty."""

    x: Tensor
    atoms: Tensor
    lam: float


@st.composite
def problems(draw, scales=SCALES, penalties=PENALTIES):
    """Problems with an answer, though maybe a hard one."""
    n, d, m = (draw(st.sampled_from(sizes)) for sizes in ([1, 2, 3, 17], [1, 2, 3, 8, 16], [1, 2, 3, 8, 40]))
    dtype = draw(st.sampled_from([torch.float32, torch.float32, torch.float64]))
    random = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    atoms = normalize(torch.randn(m, d, generator=random, dtype=torch.float64), dim=1)
    if draw(st.integers(0, 4)) == 0:
        atoms = atoms[torch.randint(m, (m,), generator=random)]  # some are equal
    kind = draw(st.sampled_from(["noise", "noise", "sparse", "one row", "zeros", "an atom", "signs"]))
    x = torch.randn(n, d, generator=random, dtype=torch.float64)
    if kind == "sparse":
        x = (
            torch.rand(n, m, generator=random, dtype=torch.float64) * (torch.rand(n, m, generator=random) < 0.2)
        ) @ atoms
    elif kind == "one row":
        x = x[:1].repeat(n, 1)
    elif kind == "zeros":
        x = x * (torch.arange(n) % 2)[:, None]
    elif kind == "an atom":
        x = atoms[torch.randint(m, (n,), generator=random)]
    elif kind == "signs":
        x = x.sign()
    x = x * 10.0 ** draw(st.sampled_from(scales))
    lam = draw(st.sampled_from(penalties)) * (float(x.norm(dim=1).mean()) or 1.0)
    return Problem(x.to(dtype), normalize(atoms.to(dtype), dim=1), lam)


ordinary = problems(scales=[-4, 0, 0, 4])


def squares(x):
    return x.double().square().sum()


def check_codes(codes, problem):
    """Codes of the form that is promised."""
    x, atoms = problem.x, problem.atoms
    assert codes.layout == torch.sparse_csr
    assert codes.shape == (len(x), len(atoms))
    assert codes.dtype == x.dtype
    assert not codes.requires_grad
    torch.sparse_csr_tensor(
        codes.crow_indices(), codes.col_indices(), codes.values(), codes.shape, check_invariants=True
    )
    assert (codes.values() > 0).all()
    assert torch.isfinite(codes.values()).all()


def objective(codes, problem):
    """The objective, summed over the rows, in float64."""
    found = codes.to_dense().double()
    return float(squares(problem.x.double() - found @ problem.atoms.double()) + problem.lam * found.sum())


def rounding(problem, terms=64):
    """What rounding may change in sums of squares of the rows."""
    return terms * torch.finfo(problem.x.dtype).eps * float(squares(problem.x)) * max(problem.x.shape)


ENCODERS = {
    "greedy numba": partial(greedy_encode, backend="numba"),
    "greedy torch": partial(greedy_encode, backend="torch"),
    "greedy residual": partial(greedy_encode, memory=1),
    "refined numba": partial(refined_encode, backend="numba"),
    "refined torch": partial(refined_encode, backend="torch"),
    "lasso numba": partial(lasso_encode, backend="numba", max_iter=2000),
    "lasso torch": partial(lasso_encode, backend="torch", max_iter=2000),
    "GreedyCoder": GreedyCoder(),
    "GreedyCoder, bound": lambda x, atoms, lam: GreedyCoder().bind(atoms)(x, lam),
    "MatchingPursuitCoder": MatchingPursuitCoder(2),
    "RefinedCoder": RefinedCoder(),
    "LassoCoder": LassoCoder(max_iter=2000),
}


@pytest.mark.filterwarnings("ignore:.*samples stopped at a relative duality gap")
@pytest.mark.parametrize("name", ENCODERS)
def test_codes(name, attempt, fuzz):
    encode = ENCODERS[name]

    @fuzz(problems(), cases=8, many=120)
    def _(problem):
        codes = attempt("encoders", lambda: encode(problem.x, problem.atoms, problem.lam))
        if codes is None:
            return
        gap = None
        if name.startswith("lasso"):
            codes, gap, _ = codes
        check_codes(codes, problem)
        if name == "MatchingPursuitCoder":
            assert codes.crow_indices().diff().max() <= 2
            return
        found, most = objective(codes, problem), float(squares(problem.x))
        assert found <= most + rounding(problem)
        if "reedy" in name:
            assert found == pytest.approx(most - float(squares(codes.values())), abs=rounding(problem))
        elif gap is not None:
            assert (gap >= -1e-4).all()
        scaled = encode(4 * problem.x, problem.atoms, 4 * problem.lam)
        scaled = scaled[0] if gap is not None else scaled
        if "reedy" in name:  # a power of two changes no rounding
            torch.testing.assert_close(scaled.to_dense(), 4 * codes.to_dense())
        else:
            again = Problem(4 * problem.x, problem.atoms, 4 * problem.lam)
            assert objective(scaled, again) == pytest.approx(16 * found, rel=0.01, abs=16 * rounding(problem))


@pytest.mark.filterwarnings("ignore:.*samples stopped at a relative duality gap")
@pytest.mark.parametrize("name", ENCODERS)
def test_spoilt_problems(name, attempt, fuzz):
    encode = ENCODERS[name]

    @fuzz(ordinary, st.sampled_from(["x", "atoms", "lam"]), st.sampled_from(list(SPOILT)), anything, cases=12, many=120)
    def _(problem, which, how, lam):
        given = vars(problem).copy()
        given[which] = lam if which == "lam" else SPOILT[how](given[which])
        codes = attempt("spoilt problems", lambda: encode(given["x"], given["atoms"], given["lam"]))
        if codes is None:
            assert which == "lam" or how not in HARMLESS
            return
        codes = codes[0] if isinstance(codes, tuple) else codes
        check_codes(codes, Problem(given["x"], given["atoms"], 1.0))
        if which == "lam":
            assert is_number(lam) or (isinstance(lam, Tensor) and lam.ndim == 0)
        elif how in HARMLESS:
            plain = encode(problem.x, problem.atoms, problem.lam)
            plain = plain[0] if isinstance(plain, tuple) else plain
            torch.testing.assert_close(codes.to_dense(), plain.to_dense())


def compressed(codes):
    """Dense codes as CSR; anything else as it is."""
    dense = isinstance(codes, Tensor) and codes.layout == torch.strided and codes.ndim == 2 and not codes.is_meta
    return codes.detach().clone().to_sparse_csr() if dense else codes


# --- codes -----------------------------------------------------------------------------------------------------------


@st.composite
def code_parts(draw):
    """The parts of a CSR matrix, and its width, maybe wrong."""
    n, m = draw(st.sampled_from([0, 1, 3])), draw(st.sampled_from([1, 2, 5]))
    dense = torch.rand(n, m) * (torch.rand(n, m) < 0.5)
    codes = dense.to_sparse_csr()
    parts = {"crow": codes.crow_indices(), "col": codes.col_indices(), "values": codes.values(), "num_atoms": m}
    which, how = draw(st.sampled_from([*parts, "none"])), draw(st.sampled_from(["too large", "reversed", *SPOILT]))
    if which == "num_atoms":
        parts[which] = draw(anything)
    elif which != "none":
        part = parts[which]
        tricks = {"too large": lambda x: x + 1000, "reversed": lambda x: x.flip(0), **SPOILT}
        parts[which] = tricks[fit(how, part)](part)
    return parts


def test_codes_from_their_parts(attempt, fuzz):
    @fuzz(code_parts(), cases=60, many=800)
    def _(parts):
        codes = attempt("csr_codes", lambda: csr_codes(**parts))
        if codes is None:
            return
        assert (codes.to_dense().count_nonzero(1) <= codes.crow_indices().diff()).all()
        assert codes.shape == (len(parts["crow"]) - 1, parts["num_atoms"])


def test_reconstruction(attempt, fuzz):
    @fuzz(
        ordinary, st.sampled_from(["codes", "atoms"]), st.sampled_from(list(SPOILT)), st.booleans(), cases=40, many=500
    )
    def _(problem, which, how, sparse):
        codes = torch.rand(len(problem.x), len(problem.atoms), dtype=problem.x.dtype).round()
        given = {"codes": codes.to_sparse_csr(), "atoms": problem.atoms}
        given[which] = SPOILT[how](given[which] if which == "atoms" else codes)
        given["codes"] = compressed(given["codes"]) if sparse else given["codes"]
        found = attempt("reconstruct", lambda: reconstruct(**given))
        if found is None:
            return
        dense = given["codes"].to_dense() @ given["atoms"]  # has NaN for 0 x NaN, where nothing is looked up
        if dense.isfinite().all():
            torch.testing.assert_close(found, dense, rtol=1e-3, atol=1e-3)


# --- metrics ---------------------------------------------------------------------------------------------------------

METRICS = {
    "average_coefficient_norm": ("codes", "p"),
    "normalized_loss": ("codes", "residual", "lam"),
    "nonzero_entries": ("codes",),
    "sparse_coding_loss": ("codes", "residual", "lam"),
    "explained_variance": ("residual", "x"),
    "mean_max_coefficient": ("codes",),
    "atom_activity": ("codes",),
    "coefficient_histogram": ("codes", "lam", "num_bins", "low", "high"),
    "coding_gap": ("codes", "residual", "lam", "bound"),
    "lower_bound": ("codes", "residual", "lam", "gap"),
    "score_sums": ("codes", "residual", "x", "lam", "groups", "num_buckets", "bound"),
    "scores_of_sums": ("sums",),
    "oracle_sparsity": ("true_codes",),
    "co_activity_lift": ("codes",),
    "s1_over_independent": ("codes",),
    "support_recovery": ("true_codes", "codes", "matched"),
    "atom_recovery": ("true_atoms", "atoms", "threshold"),
    "match_atoms": ("true_atoms", "atoms"),
    "matching_by_chance": ("true_atoms", "num_atoms", "seed"),
    "atom_stability": ("dictionaries", "seed"),
}
NUMBERS = {"p": 1.0, "lam": 0.5, "num_bins": 5, "low": 0.1, "high": 10.0, "num_buckets": 3, "threshold": 0.9}
NUMBERS |= {"num_atoms": 4, "seed": 0}


def metric_inputs(n, m, d, random):
    """An input of each name."""
    codes = torch.rand(n, m, generator=random) * (torch.rand(n, m, generator=random) < 0.4)
    x, residual = (torch.randn(n, d, generator=random) for _ in range(2))
    atoms, true_atoms = torch.randn(m, d, generator=random), torch.randn(3, d, generator=random)
    return {
        **NUMBERS,
        **{"codes": codes, "true_codes": codes[:, :3], "x": x, "residual": residual},
        **{"bound": torch.rand(n, generator=random), "gap": torch.rand(n, generator=random)},
        **{"groups": torch.randint(3, (n,), generator=random), "sums": torch.rand(4, 9, generator=random).double()},
        **{"matched": torch.arange(min(3, m)), "atoms": atoms, "true_atoms": true_atoms},
        "dictionaries": [atoms, true_atoms],
    }


def check_metric(name, value, given):
    """What must hold of any answer."""
    values = list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else [value]
    for each in values:
        assert isinstance(each, Tensor)
        assert not torch.isinf(each).any()
    if "codes" in METRICS[name] or "true_codes" in METRICS[name]:
        m = given["codes" if "codes" in METRICS[name] else "true_codes"].shape[1]
        low, high = {"average_coefficient_norm": (1, m), "oracle_sparsity": (1, m), "nonzero_entries": (0, m)}.get(
            name, (-math.inf, math.inf)
        )
        if name != "average_coefficient_norm" or given["p"] == 1:
            assert not ((values[0] < low - 1e-6) | (values[0] > high + 1e-6)).any()


@pytest.mark.filterwarnings("ignore:.*is NaN, because every code is zero")
@pytest.mark.parametrize("name", METRICS)
def test_metrics(name, attempt, fuzz):
    metric, names = getattr(functional, name), METRICS[name]
    sizes = st.tuples(st.sampled_from([0, 1, 2, 9]), st.sampled_from([3, 5]), st.sampled_from([1, 4]))

    @fuzz(sizes, st.sampled_from(names), st.sampled_from(list(SPOILT)), anything, st.booleans(), cases=12, many=100)
    def _(size, which, how, value, sparse):
        inputs = metric_inputs(*size, torch.Generator().manual_seed(0))
        given = {key: inputs[key] for key in names}
        whole = dict(given)
        if which in NUMBERS:
            given[which] = value
        elif which == "dictionaries":
            given[which] = value if sparse else [given[which][0], SPOILT[how](given[which][1])]
        else:
            how = fit(how, given[which])
            given[which] = SPOILT[how](given[which])
        for key in ("codes", "true_codes"):
            codes = given.get(key)
            if sparse and key in given:
                given[key] = compressed(codes)
        found = attempt("metrics", lambda: metric(**given))
        if found is None:
            assert which in NUMBERS or how not in HARMLESS or which == "dictionaries"
            return
        broken = not (which in NUMBERS or which == "dictionaries") and how in ("NaN", "infinity", "minus infinity")
        if which in NUMBERS:
            assert value is None or is_number(value) or isinstance(value, Tensor)
        elif how in HARMLESS and which != "dictionaries":
            torch.testing.assert_close(found, metric(**whole), equal_nan=True)
        huge = which in NUMBERS and is_number(value) and value > 1e30
        if not (broken or huge or how == "largest"):
            check_metric(name, found, given)


def test_codes_of_zeros_give_nan_and_a_warning(fuzz):
    @fuzz(st.integers(1, 5), st.integers(1, 5), st.booleans(), cases=5, many=20)
    def _(n, m, sparse):
        codes = torch.zeros(n, m)
        codes = codes.to_sparse_csr() if sparse else codes
        with pytest.warns(UserWarning, match="lam is too large"):
            assert functional.average_coefficient_norm(codes).isnan()
        assert functional.nonzero_entries(codes) == 0


# --- dictionaries and scores -----------------------------------------------------------------------------------------


def test_dictionaries(attempt, fuzz):
    names = ["atoms", "centre", "scale", "lam", "coder", "card"]

    @fuzz(ordinary, st.sampled_from(names), st.sampled_from(list(SPOILT)), anything, cases=60, many=800)
    def _(problem, which, how, value):
        given = {"atoms": problem.atoms, "centre": problem.x.mean(0), "scale": 2.0, "lam": problem.lam}
        given[which] = SPOILT[how](given[which]) if which in ("atoms", "centre") else value
        dictionary = attempt("Dictionary", lambda: Dictionary(**given))
        if dictionary is None:
            assert which not in ("atoms", "centre") or how not in HARMLESS
            return
        assert which not in ("scale", "lam") or value is None or is_number(value) or isinstance(value, Tensor)
        x = problem.x.to(dictionary.atoms.dtype)
        if which == "lam" and value is None:
            return
        codes = attempt("Dictionary", lambda: dictionary.encode(x, lam=problem.lam))
        if codes is None:  # a tiny scale makes the rows infinite
            assert which == "scale"
            return
        assert torch.isfinite(codes.values()).all()
        assert dictionary.decode(codes).shape == x.shape
        torch.testing.assert_close(dictionary.bind().encode(x, lam=problem.lam).to_dense(), codes.to_dense())


CALLS = {
    "encode": lambda dictionary, x: dictionary.encode(x),
    "bind": lambda dictionary, x: dictionary.bind().encode(x),
    "standardise": lambda dictionary, x: dictionary.standardise(x),
    "decode": lambda dictionary, x: dictionary.decode(x),
    "start_from": lambda dictionary, x: dictionary.start_from(x),
    "encode, lam": lambda dictionary, x: dictionary.encode(torch.zeros(2, dictionary.d_model), lam=x),
    "lam": lambda dictionary, x: setattr(dictionary, "lam", x),
    "coder": lambda dictionary, x: dictionary.bind(x).encode(torch.zeros(2, dictionary.d_model)),
    "score": lambda dictionary, x: score(dictionary, x),
    "score, batches": lambda dictionary, x: score(dictionary, [x, x]),
    "score, evaluations": lambda dictionary, x: score(dictionary, torch.zeros(2, dictionary.d_model), x),
    "score, lam": lambda dictionary, x: score(dictionary, torch.zeros(2, dictionary.d_model), [Scores(lam=x)]),
    "score, use": lambda dictionary, x: score(dictionary, torch.zeros(2, dictionary.d_model), [AtomUse(lam=x)]),
    "score, buckets": lambda dictionary, x: Scores(buckets=x),
    "random": lambda dictionary, x: Dictionary.random(x, 3),
    "random, d_model": lambda dictionary, x: Dictionary.random(3, x),
}
SINGLE = {"encode, lam", "lam", "coder", "score, evaluations", "score, lam", "score, use", "score, buckets", "random"}
SINGLE |= {"random, d_model"}


@pytest.mark.filterwarnings("ignore:.*every code is zero", "ignore:The ``compute`` method")
@pytest.mark.parametrize("name", CALLS)
def test_what_dictionaries_are_asked(name, attempt, fuzz):
    @fuzz(problems(scales=[-4, 0, 4]), st.sampled_from(list(SPOILT)), anything, cases=12, many=100)
    def _(problem, how, value):
        dictionary = Dictionary(problem.atoms, problem.x.mean(0), lam=problem.lam)
        m, d = dictionary.shape
        x = {"start_from": torch.randn(m, d), "decode": torch.rand(3, m)}.get(name, problem.x)
        given = value if name in SINGLE else SPOILT[how](x)
        given = compressed(given) if name == "decode" else given
        found = attempt(name, lambda: CALLS[name](dictionary, given))
        if found is None or not isinstance(found, Tensor):
            return
        if found.layout == torch.sparse_csr:
            assert (found.values() > 0).all()
            assert torch.isfinite(found.values()).all()
        elif name == "standardise" and how not in ("NaN", "infinity", "minus infinity", "largest"):
            assert torch.isfinite(found).all()

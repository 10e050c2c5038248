"""Data, its split and loaders, stores, measurements and the arguments of classes, with drawn input."""

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from sparsecode_control import (
    DataRows,
    Gaussian,
    HeavyTailed,
    MatchedGaussian,
    Rademacher,
    RepeatedGaussian,
    Shuffled,
)
from sparsecode_synthetic import RepeatedNoise, SparseLinear

from sparsecode_pl import SparseCodingModule, measure
from sparsecode_pl.callbacks import AdaptivePenalty, CodeWriter, RunCheckpoint, SparseCodingProgress, TensorBoardFigures
from sparsecode_pl.coding import GreedyCoder, LassoCoder, MatchingPursuitCoder, RefinedCoder
from sparsecode_pl.data import (
    ActivationDataModule,
    ActivationStore,
    ControlOf,
    MemoryWriter,
    SubsetSource,
    TensorActivations,
    TensorSource,
    shuffled_batches,
    write_store,
)
from sparsecode_pl.measurement import MeasurementError
from sparsecode_pl.metrics import (
    AtomActivity,
    AtomRecovery,
    AverageCoefficientNorm,
    CoefficientHistogram,
    SampledCodes,
    ScoreSums,
)
from sparsecode_pl.optimizer import MeanFieldNewton

from .spoilt import HARMLESS, SPOILT, anything, conforms, fit

QUIET = [
    "ignore:.*rows are held out, because column",
    "ignore:.*every code is zero",
    "ignore:.*num_atoms is",
    "ignore:.*training rows are different",
    "ignore:.*samples stopped at a relative duality gap",
    "ignore:.*objective of the exact codes",
    "ignore:.*failed",
]
pytestmark = [pytest.mark.filterwarnings(each) for each in QUIET]

ROWS = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
NOISE = {"d_model": 4, "num_samples": 40}
DATA = {"x": ROWS, "columns": {"token_id": torch.arange(60) % 25, "document": [f"d{row // 6}" for row in range(60)]}}

#: Classes, and arguments with which they are made.
CLASSES = {
    SparseCodingModule: {"d_model": 4, "num_atoms": 6},
    TensorActivations: DATA,
    SparseLinear: NOISE | {"active": 2.0},
    RepeatedNoise: NOISE | {"num_types": 30},
    Gaussian: NOISE,
    Rademacher: NOISE,
    HeavyTailed: NOISE,
    MatchedGaussian: {},
    RepeatedGaussian: {},
    Shuffled: {},
    ControlOf: {"control": Shuffled(), "data": TensorActivations(ROWS)},
    GreedyCoder: {},
    RefinedCoder: {},
    LassoCoder: {},
    MatchingPursuitCoder: {"k": 2},
    AdaptivePenalty: {},
    CodeWriter: {},
    RunCheckpoint: {},
    SparseCodingProgress: {},
    TensorBoardFigures: {},
    AtomActivity: {"num_atoms": 3},
    AtomRecovery: {"true_atoms": torch.eye(3)},
    AverageCoefficientNorm: {},
    CoefficientHistogram: {},
    SampledCodes: {"statistic": torch.sum, "num_atoms": 3},
    ScoreSums: {"num_buckets": 3, "d_model": 4},
    MeanFieldNewton: {"params": [torch.nn.Parameter(torch.eye(3))]},
    MemoryWriter: {"layers": {"0": 4}},
}


def arguments(kind):
    """All arguments of a class, also those of its bases, with their annotations."""
    found = {}
    for each in kind.__mro__:
        if each.__module__.startswith("sparsecode") and "__init__" in vars(each):
            parameters = inspect.signature(each.__init__).parameters
            named = {p.name: str(getattr(p.annotation, "__name__", p.annotation)) for p in parameters.values()}
            found = named | found
            if "kwargs" not in parameters:
                break
    return {name: kind for name, kind in found.items() if name not in ("self", "kwargs", "params", "statistic")}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_arguments(kind, attempt, fuzz):
    known = arguments(kind)

    @fuzz(st.sampled_from(list(known)), anything, st.sampled_from(list(known)), anything, cases=40, many=150)
    def _(name, value, other, second):
        given = CLASSES[kind] | {other: second} | {name: value}
        made = attempt("arguments", lambda: kind(**given))
        if made is None:
            return
        for each in (name, other):
            assert conforms(given[each], known[each]), f"{each} is {given[each]!r}, and annotated as {known[each]}"
        if isinstance(made, ActivationDataModule) and not any(
            isinstance(each, int) and each > 1e6 for each in given.values()
        ):
            use(made, attempt)


def use(data, attempt):
    """Ask data for all that a fit needs; or it is refused."""
    if attempt("data", lambda: (data.setup("fit"), data.train_dataloader(), data.val_dataloader())) is None:
        return
    check_split(data)
    if not data.num_workers:
        check_loaders(data)


def check_split(data):
    """Every row is of one kind at most, and equal rows are on one side."""
    kinds, rows = data.row_sets, data.rows[:]
    index = torch.cat(list(kinds.values()))
    assert len(index.unique()) == len(index)
    assert len(index) == len(rows) - data.split.copies
    assert all(len(each) and (each.diff() > 0).all() for each in kinds.values())
    sides = {kind: {row.tobytes() for row in (rows[each] + 0.0).numpy()} for kind, each in kinds.items()}
    assert sum(map(len, sides.values())) == len(set().union(*sides.values()))
    assert torch.isfinite(data.statistics.mean).all()
    assert 0 < data.statistics.mean_norm < math.inf


def check_loaders(data):
    """Each row is scored once, and a round has as many batches of finite rows as it should."""
    for kind, loader in zip(data.row_sets.values(), data.val_dataloader(), strict=True):
        batches = list(loader)
        assert torch.equal(torch.cat([index for index, _ in batches]).sort().values, kind)
        assert torch.equal(torch.cat([x for _, x in batches]), data.rows[torch.cat([index for index, _ in batches])])
    loader = data.train_dataloader()
    assert len(loader) == data.batches_per_round
    batch = next(iter(loader))
    assert batch.shape == (data.global_batch(None if data.stream else len(data.train_index)), data.d_model)
    assert torch.isfinite(batch).all()


# --- rows and columns ------------------------------------------------------------------------------------------------


@st.composite
def rows(draw, scales=(-38, -19, -4, 0, 0, 0, 0, 4, 18, 37)):
    """Rows that may be hard: few, repeated, alike, huge or tiny."""
    n, d = draw(st.sampled_from([1, 2, 3, 10, 60])), draw(st.sampled_from([1, 2, 5]))
    random = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    x = torch.randn(n, d, generator=random)
    kind = draw(st.sampled_from(["noise", "noise", "noise", "repeated", "equal", "two", "offset", "signed zeros"]))
    if kind == "repeated":
        x = x[torch.randint(n, (n,), generator=random) // 3]
    elif kind == "equal":
        x = x[:1].repeat(n, 1)
    elif kind == "two":
        x = x[torch.arange(n) % min(2, n)]
    elif kind == "offset":
        x = x + 1e4
    elif kind == "signed zeros":
        x = x.sign() * 0.0
        x[0] = 1.0
    return x * 10.0 ** draw(st.sampled_from(scales))


@st.composite
def columns(draw, n):
    """Columns of any kind, maybe wrong ones."""
    number = torch.arange(n)
    choices = {
        "tokens": number % 25,
        "few": number % 3,
        "all alike": number * 0,
        "floats": (number % 30).double() / 7,
        "with NaN": torch.where(number % 4 == 0, math.nan, number.double()),
        "bools": number % 2 == 0,
        "words": [f"w{row % 22}" for row in range(n)],
        "array": np.array([f"w{row % 22}" for row in range(n)]),
        "integers": (number % 24).numpy(),
        "mixed": [row if row % 2 else "a" for row in range(n)],
        "None": [None] * n,
        "bytes": [b"a"] * n,
        "complex": number.to(torch.complex64),
        "meta": number.to("meta"),
        "sparse": number.float().to_sparse(),
        "two columns": number.repeat(2, 1).T,
        "short": number[1:],
        "one number": 3,
        "text": "a" * n,
        "tuple": tuple(range(n)),
        "set": set(range(n)),
        "nothing": None,
        "nested": [[row] for row in range(n)],
        "dates": np.arange(n).astype("datetime64[D]"),
    }
    names = draw(st.lists(st.sampled_from(["token_id", "document", "rows", "speaker"]), max_size=3, unique=True))
    found = {name: choices[draw(st.sampled_from(["tokens", "few", "floats", "words"]))] for name in names}
    if draw(st.integers(0, 3)) == 0:
        found[draw(st.sampled_from(["token_id", "document", 3]))] = choices[draw(st.sampled_from(list(choices)))]
    return found


SETTINGS = {
    "batch_size": [1, 2, 7, 1000],
    "batches_per_round": [1, 3],
    "val_split": [0.0, 0.01, 0.1, 0.5, 0.99],
    "unseen_split": [0.0, 0.05, 0.5, 0.9],
    "heldout_by": [None, None, "rows", "speaker", "document", "nothing"],
    "unseen_by": [None, None, "token_id", "speaker", "nothing"],
    "remove": [None, None, None, "token_mean"],
    "seed": [0, 1, 5],
}
settings = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in SETTINGS.items()})
problems = rows().flatmap(lambda x: st.tuples(st.just(x), columns(len(x)), settings, st.sampled_from(list(SPOILT))))


def test_rows_columns_and_their_split(attempt, fuzz):
    @fuzz(problems, st.integers(0, 5), cases=120, many=1500)
    def _(problem, spoil):
        x, given, options, how = problem
        x = SPOILT[how](x) if spoil == 0 else x
        data = attempt("rows", lambda: TensorActivations(x, columns=given, **options))
        if data is not None:
            use(data, attempt)


def test_harmless_forms_of_rows_change_nothing(fuzz):
    @fuzz(st.sampled_from(list(HARMLESS)), cases=6, many=20)
    def _(how):
        data = TensorActivations(HARMLESS[how](ROWS), val_split=0.2)
        assert torch.equal(data.rows, ROWS)
        check_split(data)
        check_loaders(data)


CONTROLS = [Gaussian, HeavyTailed, Rademacher, MatchedGaussian, RepeatedGaussian, Shuffled]


def test_controls_of_hard_rows(attempt, fuzz):
    @fuzz(problems, st.sampled_from(CONTROLS), st.booleans(), cases=40, many=500)
    def _(problem, control, again):
        x, given, options, _ = problem
        data = attempt("rows", lambda: TensorActivations(x, columns=given, **options))
        if data is None or attempt("data", lambda: data.setup("fit") or True) is None:
            return
        source = attempt("controls", lambda: control().of(data.source))
        held = None if source is None else attempt("controls", lambda: data.over(source, control=True))
        if held is None or attempt("controls", lambda: held.setup("fit") or True) is None:
            return
        assert torch.isfinite(held.rows[:]).all()
        check_split(held)
        check_loaders(held)


def test_subsets(attempt, fuzz):
    @fuzz(st.sampled_from(list(SPOILT)), st.sampled_from([0, -1, 5, 59, 60, -60, -61, 10**9]), cases=30, many=200)
    def _(how, number):
        index = SPOILT[fit(how, torch.tensor([3, number]))](torch.tensor([3, number]))
        subset = attempt("subsets", lambda: SubsetSource(TensorSource(ROWS), index))
        found = None if subset is None else attempt("subsets", lambda: subset.rows[:])
        if found is not None:
            assert torch.equal(found, ROWS[index])


def test_shuffled_batches_give_each_row_once(attempt, fuzz):
    sizes = st.lists(st.integers(0, 9), max_size=6)

    @fuzz(
        sizes,
        st.integers(-1, 8),
        st.integers(-1, 20),
        st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.5, math.nan]),
        cases=60,
        many=600,
    )
    def _(blocks, batch_size, buffer_size, share):
        number = torch.arange(sum(blocks)).float()[:, None]
        random = torch.Generator().manual_seed(0)
        made = attempt(
            "shuffled",
            lambda: list(shuffled_batches(iter(number.split(blocks)), batch_size, buffer_size, share, random)),
        )
        if made is None:
            return
        found = torch.cat([*made, number[:0]]).flatten()
        assert len(found.unique()) == len(found) == sum(blocks) - sum(blocks) % batch_size
        assert all(len(each) == batch_size for each in made)


# --- stores ----------------------------------------------------------------------------------------------------------


def test_stores(attempt, fuzz, tmp_path):
    count = iter(range(10**9))
    places = ["one", "layer", "column", "name", "dtype", "shard_rows", "source", "arrays"]

    @fuzz(rows(), st.sampled_from(places), st.sampled_from(list(SPOILT)), anything, cases=40, many=400)
    def _(x, place, how, value):
        path = tmp_path / str(next(count))
        token = torch.arange(len(x))
        item, options = {"a": x, "token": token}, {}
        if place == "one":
            item = SPOILT[how](x)
        elif place == "layer":
            item["a"] = SPOILT[how](x)
        elif place == "column":
            item["token"] = SPOILT[fit(how, token)](token)
        elif place == "name":
            item[value if isinstance(value, str | int | float | bytes | None) else "../a"] = x
        elif place != "arrays":
            options[place] = value
        arrays = value if place == "arrays" else [item, item]
        written = attempt("stores", lambda: write_store(path, arrays, **options))
        if written is None:
            return
        layer = "activations" if place in ("one", "arrays") else "a"
        data = attempt("stores", lambda: ActivationStore(written, layer=layer, val_split=0.2))
        if data is None or place in ("name", "one", "arrays") or how not in HARMLESS:
            return
        kept = x.to({"float16": torch.half, "bfloat16": torch.bfloat16}.get(options.get("dtype"), torch.float32))
        assert torch.equal(data.source.rows[:], torch.cat([kept, kept]).float())
        assert torch.equal(data.source.columns["token"], torch.cat([token, token]).int())


# --- measurements ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("empty_figures")
def test_measurements(attempt, fuzz, tmp_path, quiet_trainer):
    names = [
        "none",
        "seeds",
        "explained_variance",
        "exact",
        "truth",
        "evaluations",
        "jobs",
        "controls",
        "data",
        "module",
    ]

    def trainer(module, folder):
        return quiet_trainer(max_epochs=1, callbacks=[] if module.fixed_lam else [AdaptivePenalty()])

    def measured(given):
        try:
            return measure(**given)
        except MeasurementError as error:
            pytest.fail(f"a fit failed, though its input was taken: {error}")

    # Fits at other scales, such as 1e-19 and 1e37, are another suite's.
    scales = rows(scales=[-4, 0, 4])

    @fuzz(scales, st.sampled_from(names), anything, st.sampled_from([None, 1e-12, 0.1, 1e12]), cases=6, many=60)
    def _(x, which, value, lam):
        module = SparseCodingModule(x.shape[1], num_atoms=4, lam=lam)
        data = attempt("rows", lambda: TensorActivations(x, batch_size=8, batches_per_round=2, val_split=0.3))
        given = {"module": module, "data": data, "controls": [DataRows()], "folder": tmp_path, "trainer": trainer}
        many = isinstance(value, int) and value > 2  # takes long, and nothing else
        given |= {} if which == "none" or many else {which: value}
        records = attempt("measurements", lambda: measured(given))
        for record in records or ():
            for name in ("S1", "N0", "L", "lam"):
                assert record[name] is not None
                assert not math.isinf(record[name])
            assert record["N0"] == 0 or record["S1"] >= 1 - 1e-6

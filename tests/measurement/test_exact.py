import warnings
from functools import partial
from io import StringIO

import pytest
from lightning import Callback
from rich.console import Console
from sparsecode_control import MatchedGaussian, RandomDictionary
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparsecode_pl.coding import LassoCoder, lasso_encode
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.measurement import load_results
from sparsecode_pl.measurement.report import print_table
from sparsecode_pl.measurement.trainer import default_trainer
from sparsecode_pl.metrics import functional
from sparsecode_pl.module import SparseCodingModule

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*configure_optimizers` returned `None`"),
]

TRAINER = partial(
    default_trainer, accelerator="cpu", devices=1, max_epochs=2, enable_progress_bar=False, log_every_n_steps=1
)
SCORES = ["S1", "L_norm", "N0", "L", "explained_variance"]
NAMES = [*(f"exact_{score}" for score in SCORES), "coding_gap", "exact_duality_gap"]
NEW = {f"{rows}{name}" for rows in ("", "heldout_") for name in NAMES}


def module(**settings):
    return SparseCodingModule(8, **{"expansion": 4, "seed": 3, **settings})


def scalars(folder):
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(p.step, p.value) for p in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture(scope="module")
def measured(layered, tmp_path_factory):
    """The run folder and the records of a layer with controls, with exact codes and without, at a share."""
    from sparsecode_pl.measurement import measure

    found = []
    for exact in (True, False):
        folder = tmp_path_factory.mktemp("exact")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = {"explained_variance": 0.9, "folder": folder, "trainer": TRAINER, "exact": exact}
            records = measure(module(), layered((8,)), [MatchedGaussian(), RandomDictionary()], **options)
        found.append((folder / "version_0", records))
    return found


def test_the_exact_scores_stand_beside_those_of_the_coder(measured):
    (_, records), (_, plain) = measured
    for number, (record, other) in enumerate(zip(records, plain, strict=True)):
        ratios = {"exact_S1_ratio", "heldout_exact_S1_ratio"} if number else set()
        assert record.keys() - other.keys() == NEW | ratios
        same = other.keys() - {"seconds", "intervals"}
        assert {name: record[name] for name in same} == {name: other[name] for name in same}
        bounds = {"exact_duality_gap", "heldout_exact_duality_gap"}  # of which there are no intervals
        assert record["intervals"].keys() - other["intervals"].keys() == NEW - bounds | ratios
        assert {name: record["intervals"][name] for name in other["intervals"]} == other["intervals"]


def test_they_are_those_of_the_saved_dictionary_at_the_penalty_for_scoring(measured, layered):
    (folder, records), _ = measured
    layer = layered((8,))
    layer.setup("fit")
    for record, name in ((records[0], "0-toy_layer_0"), (records[2], "2-RandomDictionary")):
        dictionary = Dictionary.from_pretrained(folder / name / "dictionary").double()
        for rows, index in (("", layer.train_index), ("heldout_", layer.heldout_index)):
            lam = record[f"{rows}lam"]
            assert lam != record["train_lam"]
            x = dictionary.standardise(layer.rows[index].double())
            codes, _, _ = lasso_encode(x, dictionary.atoms, lam, tol=1e-8, max_iter=100_000)
            residual = (x - codes.to_dense() @ dictionary.atoms).detach()
            minimum = float(functional.sparse_coding_loss(codes, residual, lam))
            assert record[f"{rows}exact_L"] == pytest.approx(minimum, rel=2e-4)
            assert record[f"{rows}exact_S1"] == pytest.approx(
                float(functional.average_coefficient_norm(codes)), rel=5e-3
            )
            assert record[f"{rows}exact_explained_variance"] == pytest.approx(
                float(functional.explained_variance(residual, x)), abs=1e-3
            )
            assert 1 + record[f"{rows}coding_gap"] == pytest.approx(record[f"{rows}L"] / minimum, rel=2e-4)
            assert record[f"{rows}coding_gap"] > 1e-3


def test_the_ratios_of_controls_are_of_the_exact_scores(measured):
    (_, (record, *controls)), _ = measured
    for control in controls:
        for name in ("exact_S1", "heldout_exact_S1"):
            assert control[f"{name}_ratio"] == record[name] / control[name]


def test_they_are_logged_once_and_leave_the_curves_as_they_are(measured):
    (folder, (record, *_)), (plain, _) = measured
    found, curves = scalars(folder / "0-toy_layer_0"), scalars(plain / "0-toy_layer_0")
    new = {tag: points for tag, points in found.items() if tag not in curves}
    assert {tag: points for tag, points in found.items() if tag not in new} == curves
    expected = {
        f"explained_0.9/{rows}/{name}": record[f"{prefix}{name}"]
        for rows, prefix in (("train", ""), ("heldout", "heldout_"))
        for name in NAMES
    }
    assert {tag: points[0][1] for tag, points in new.items()} == pytest.approx(expected, rel=1e-6)
    assert all(len(points) == 1 for points in new.values())


class Watching(Callback):
    """Asks of every module it is shown for the dictionary that is learnt."""

    def on_validation_batch_end(self, trainer, pl_module, outputs, *_):
        assert outputs["codes"].shape[1] == len(pl_module.dictionary.atoms)


def test_callbacks_see_only_the_module_that_learns(run, layered):
    (record,) = run(module(lam=0.1), layered((8,)), exact=True, trainer=partial(TRAINER, callbacks=[Watching()]))
    assert record["exact_S1"] > 1


def test_codes_that_are_exact_already_have_hardly_a_gap(run, layered):
    (record,) = run(module(lam=0.3, coder=LassoCoder(tol=1e-4)), layered((8,)), exact=True)
    for rows in ("", "heldout_"):
        assert 0 <= record[f"{rows}coding_gap"] < 2e-4
        assert record[f"{rows}exact_S1"] == pytest.approx(record[f"{rows}S1"], rel=1e-3)


def test_without_held_out_rows_there_are_no_held_out_figures(run, layered):
    (record,) = run(module(lam=0.1), layered((8,), val_split=0), exact=True)
    assert {name for name in NEW if name in record} == {name for name in NEW if not name.startswith("heldout")}


def test_seeds_and_jobs_serve_them_too(run, layered, tmp_path):
    single = [run(module(lam=0.1, seed=seed), layered((8,)), exact=True)[0] for seed in (4, 5)]
    both, other = run(module(lam=0.1, seed=4), layered((8, 8)), exact=True, seeds=2, jobs=2)
    for name in NEW:
        values = [record[name] for record in single]
        assert both[name] == pytest.approx(sum(values) / 2, rel=1e-3, abs=1e-5)  # duality gaps are as small as that
        assert both["spread"][name] > 0
    assert other.keys() >= NEW
    assert load_results(tmp_path / "runs" / "version_2").records == (both, other)


def test_codes_that_stop_far_from_the_minimum_are_told_once_for_each_kind_of_rows(run, layered, monkeypatch):
    from sparsecode_pl.measurement import exact

    monkeypatch.setattr(exact, "lasso_encode", partial(lasso_encode, max_iter=1))
    with pytest.warns(UserWarning, match="the objective of the exact codes may be .* above its minimum") as caught:
        (record,) = run(module(lam=0.02), layered((8,)), exact=True)
    assert len([w for w in caught if "duality gap" in str(w.message) or "its minimum" in str(w.message)]) == 2  # rows
    assert record["coding_gap"] > 0


def test_there_is_nothing_of_it_unless_asked_for(measured):
    _, (_, plain) = measured
    assert not [name for record in plain for name in record if "exact" in name or "gap" in name]
    assert "xact" not in table(plain)


def table(records):
    console = Console(file=StringIO(), width=140)
    print_table(records, console)
    return console.file.getvalue()


def test_the_table_has_a_line_below_each_for_the_exact_codes(measured):
    (_, records), _ = measured
    lines = [" ".join(line.split()) for line in table(records).splitlines()]
    first, *_ = (number for number, line in enumerate(lines) if line.startswith("exact codes"))
    rows = [line for line in lines[first - 1 :] if "[" in line and line[0] != "["]
    assert len(rows) == 6
    for record, above, below in zip(records, rows[::2], rows[1::2], strict=True):
        low, high = record["intervals"]["heldout_S1"]
        figures = f"{record['S1']:#.3g} {record['heldout_S1']:#.3g} [{low:#.3g}, {high:#.3g}]"
        assert figures in above
        assert f" {100 * record['heldout_coding_gap']:.1f} {record['heldout_lam']:.3g} " in above
        low, high = record["intervals"]["heldout_exact_S1"]
        figures = f"{record['exact_S1']:#.3g} {record['heldout_exact_S1']:#.3g} [{low:#.3g}, {high:#.3g}]"
        assert below.startswith(f"exact codes {figures}")
        if "control_of" in record:
            assert below.startswith(f"exact codes {figures} {record['heldout_exact_S1_ratio']:.2f} [")
    assert len([line for line in lines if line.startswith("Exact codes minimise")]) == 1
    assert {"gap,", "%"} <= set(table(records).split())

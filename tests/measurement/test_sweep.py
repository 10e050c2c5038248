import gc
import json
import math
import warnings
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from sparsecode_control import Gaussian, MatchedGaussian, RandomDictionary, Shuffled
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparsecode_pl.data import Control, SampledSource, TensorActivations
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.measurement import shares
from sparsecode_pl.measurement.subjects import prepare
from sparsecode_pl.measurement.trainer import default_trainer
from sparsecode_pl.metrics.functional import explained_variance
from sparsecode_pl.module import SparseCodingModule

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*configure_optimizers` returned `None`"),
    pytest.mark.filterwarnings("ignore:.*failed. RuntimeError"),
]

TRAINER = partial(default_trainer, accelerator="cpu", devices=1, max_epochs=2, enable_progress_bar=False)


def module(**settings):
    return SparseCodingModule(8, **{"expansion": 2, **settings})


def written(folder):
    """The records in the file of a run, without what each fit gave."""
    records = json.loads((folder / "results.json").read_text())["results"]
    return [{name: value for name, value in record.items() if name != "fits"} for record in records]


def plain(record):
    """A record as a file can hold it."""
    intervals = {name: list(ends) for name, ends in record.get("intervals", {}).items()}
    return dict(record) | ({"intervals": intervals} if intervals else {})


def scores(record):
    return {name: value for name, value in record.items() if isinstance(value, float) and name != "seconds"}


def events(folder):
    """All scalars in the event files of a run."""
    found = EventAccumulator(str(folder)).Reload()
    return {tag: found.Scalars(tag) for tag in found.Tags()["scalars"]}


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweep(layered, tmp_path_factory):
    """The run folder and the records of two layers, the second wider, with two controls each."""
    from sparsecode_pl.measurement import measure

    folder = tmp_path_factory.mktemp("sweep")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        controls = [MatchedGaussian(), RandomDictionary()]
        records = measure(module(seed=3), layered((8, 12)), controls, jobs=1, folder=folder, trainer=TRAINER)
    return folder / "version_0", records


def test_each_layer_has_a_record_and_after_it_those_of_its_controls(sweep):
    _, records = sweep
    names = [(record["layer"], record["data"], record.get("control_of")) for record in records]
    assert names == [
        row
        for layer in "01"
        for row in (
            (layer, f"toy layer {layer}", None),
            (layer, "MatchedGaussian", f"toy layer {layer}"),
            (layer, "RandomDictionary", f"toy layer {layer}"),
        )
    ]
    assert {record["model"] for record in records} == {"toy"}
    assert [record["num_atoms"] for record in records] == 3 * [16] + 3 * [24]


def test_a_control_is_held_against_its_own_layer(sweep):
    _, records = sweep
    assert len({record["S1"] for record in records}) == 6
    for number, record in enumerate(records):
        base = records[number // 3 * 3]
        for name in ("S1", "heldout_S1"):
            if number % 3:
                assert record[f"{name}_ratio"] == base[name] / record[name]
            else:
                assert f"{name}_ratio" not in record


def test_a_layer_of_a_sweep_is_what_it_is_alone(sweep, run, layered):
    _, records = sweep
    data = layered((8, 12))
    last = data.over(data.sources()[1])
    alone = run(
        SparseCodingModule(12, expansion=2, seed=3), last, MatchedGaussian(), RandomDictionary(), trainer=TRAINER
    )
    for record, expected in zip(records[3:], alone, strict=True):
        assert scores(record) == scores(expected)
        assert (record["data"], record["layer"]) == (expected["data"], expected["layer"])


def test_the_files_of_a_sweep_are_of_every_layer(sweep):
    folder, records = sweep
    assert written(folder) == [plain(record) for record in records]
    dictionaries = sorted(folder.glob("*/dictionary"))
    assert [path.parent.name for path in dictionaries] == [
        f"{3 * layer + number}-toy_layer_{layer}{control}"
        for layer in range(2)
        for number, control in enumerate(["", "_MatchedGaussian", "_RandomDictionary"])
    ]
    assert [Dictionary.from_pretrained(path).shape for path in dictionaries] == 3 * [(16, 8)] + 3 * [(24, 12)]
    with Image.open(folder / "sparsity.png") as image:
        assert image.height > image.width / 2  # panels against the layer, not bars


def test_a_number_of_atoms_that_was_given_is_kept_at_every_width(layered):
    subjects = prepare(module(num_atoms=30), layered((8, 12)))
    assert [subject.module.dictionary.shape for subject in subjects] == [(30, 8), (30, 12)]


def test_layers_of_the_modules_width_have_it_and_others_one_of_its_settings(layered):
    given = module(scale=True, lam=0.2, seed=5, optimizer=torch.optim.SGD)
    same, other = prepare(given, layered((8, 12)))
    assert same.module is given
    expected = {**given.hparams, "d_model": 12}
    assert dict(other.module.hparams) == expected
    assert other.module.make_optimizer is torch.optim.SGD
    assert other.module.dictionary.shape == (24, 12)


def test_several_data_are_measured_one_after_the_other_each_with_its_controls(run, layered, capsys, tmp_path):
    data = [layered((8, 12), model="one"), layered((8,), model="two")]
    records = run(module(lam=0.1), data, Gaussian(), trainer=TRAINER)
    places = [(record["model"], record["layer"], record["data"]) for record in records]
    assert places == [
        ("one", "0", "one layer 0"),
        ("one", "0", "Gaussian"),
        ("one", "1", "one layer 1"),
        ("one", "1", "Gaussian"),
        ("two", "0", "two layer 0"),
        ("two", "0", "Gaussian"),
    ]
    assert "How sparse are the layers of one, two?" in capsys.readouterr().out
    assert len(list((tmp_path / "runs").rglob("sparsity.png"))) == 1


def test_data_without_layers_beside_data_with_them_is_one_table_too(run, layered, make_data, capsys):
    others = [layered((8,)), TensorActivations(torch.randn(200, 8), name="noise", batches_per_round=2)]
    records = run(module(lam=0.1), others, Gaussian())
    assert ["layer" in record for record in records] == [True, True, False, False]
    assert [record["data"] for record in records] == ["toy layer 0", "Gaussian", "noise", "Gaussian"]
    assert "How sparse are toy, noise?" in capsys.readouterr().out


def test_data_of_another_width_than_the_modules_is_refused(run, layered, no_fit):
    with pytest.raises(ValueError, match="d_model is 8, but toy layer 0 has width 12"):
        run(module(), layered((12, 8)))


def test_bad_rows_of_a_late_layer_are_refused_before_anything_is_fitted(run, layered, no_fit, make_data):
    bad = TensorActivations(torch.full((50, 8), torch.inf), name="bad")
    with pytest.raises(ValueError, match="bad: 400 of 400 activations are NaN or infinite"):
        run(module(), [layered(), bad])


# --- controls --------------------------------------------------------------------------------------------------------


class Never(Control):
    """A control that there is of no data."""

    def of(self, source):
        raise ValueError(f"Never is a control of nothing, and {source.label} is something: leave it out")


def test_a_control_that_there_cannot_be_is_refused_before_anything_is_fitted(run, layered, no_fit):
    with pytest.raises(ValueError, match="Never is a control of nothing, and toy layer 0 is something: leave it out"):
        run(module(), layered(), Gaussian(), Never())


class Watched(Control):
    """Keeps track of how many of its kind have rows in memory."""

    made: list[weakref.ref]
    alive_before: list[int]

    def of(self, source):
        return WatchedRows(len(source.rows), False, 0)


class WatchedRows(SampledSource):
    """Its rows."""

    d_model = 8

    def draw(self, num, random):
        gc.collect()
        Watched.alive_before.append(sum(rows() is not None for rows in Watched.made))
        rows = torch.randn(num, self.d_model, generator=random)
        Watched.made.append(weakref.ref(rows))
        return rows


def test_the_rows_of_random_controls_are_drawn_for_their_fit_and_then_let_go_of(run, layered, monkeypatch):
    monkeypatch.setattr(Watched, "made", [], raising=False)
    monkeypatch.setattr(Watched, "alive_before", [], raising=False)
    prepare(module(), layered(), [Watched()])
    assert Watched.made == []
    run(module(lam=0.1), layered((8, 8, 8)), Watched(), seeds=2)
    assert Watched.alive_before == 6 * [0]  # two fits of each of three


def test_a_random_dictionary_stays_as_it_was_drawn_while_its_penalty_settles(sweep, layered):
    folder, records = sweep
    layer, control = layered((8,)), records[2]
    saved = Dictionary.from_pretrained(folder / "2-toy_layer_0_RandomDictionary" / "dictionary")
    assert torch.equal(saved.atoms, SparseCodingModule(8, expansion=2, seed=3).dictionary.atoms)
    torch.testing.assert_close(saved.centre, layer.statistics.mean.float())
    assert control["lam"] < 0.9 * 0.1 * layer.statistics.mean_norm  # where the penalty begins
    codes = saved.encode(layer.rows[layer.train_index], control["lam"]).to_dense().double().detach()
    assert control["S1"] == pytest.approx(float(codes.sum() / codes.max(1).values.sum()), rel=1e-5)  # the layer's rows
    learnt = Dictionary.from_pretrained(folder / "0-toy_layer_0" / "dictionary")
    assert not torch.equal(learnt.atoms, saved.atoms)
    assert records[0]["S1"] < control["S1"]


def test_each_seed_of_a_random_dictionary_has_other_atoms(run, layered):
    record = run(module(lam=0.1), layered((8,)), RandomDictionary(), seeds=2)[1]
    assert record["spread"]["S1"] > 0


# --- a share of the variance -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def at_share(layered, tmp_path_factory):
    """The run folder and the records of two layers with controls, scored where 90 % are explained."""
    from sparsecode_pl.measurement import measure

    folder = tmp_path_factory.mktemp("share")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"explained_variance": 0.9, "jobs": 1, "folder": folder}
        trainer = partial(TRAINER, log_every_n_steps=1)
        controls = [MatchedGaussian(), RandomDictionary()]
        records = measure(module(seed=3, expansion=4), layered(), controls, trainer=trainer, **options)
    return folder / "version_0", records


def test_every_record_explains_the_share_and_hardly_more(at_share):
    _, records = at_share
    assert len(records) == 6
    for record in records:
        for rows, hardly in (("", 0.902), ("heldout_", 0.91)):
            assert 0.9 <= record[f"{rows}explained_variance"] < hardly
            assert record[f"{rows}lam"] != record["train_lam"]
        assert record["heldout_lam"] != record["lam"]


def test_rows_of_each_kind_are_scored_at_the_penalty_found_for_them(at_share, layered):
    folder, records = at_share
    data, record = layered(), records[3]
    layer = data.over(data.sources()[1])
    dictionary = Dictionary.from_pretrained(folder / "3-toy_layer_1" / "dictionary")
    for prefix, index in (("", layer.train_index), ("heldout_", layer.heldout_index)):
        x, lam = layer.rows[index], record[f"{prefix}lam"]
        codes = dictionary.encode(x, lam)
        residual = (x - dictionary.decode(codes)).detach()
        dense = codes.to_dense().double().detach().numpy()
        assert record[f"{prefix}S1"] == pytest.approx(dense.sum() / dense.max(1).sum(), rel=1e-5)
        assert record[f"{prefix}explained_variance"] == pytest.approx(float(explained_variance(residual, x)), rel=1e-5)
        loss = float(residual.double().square().sum()) + lam * dense.sum()
        assert record[f"{prefix}L"] == pytest.approx(loss / len(x), rel=1e-4)
        assert record[f"{prefix}L_norm"] == pytest.approx(loss / lam / dense.max(1).sum(), rel=1e-4)
        if not prefix:
            assert record["atoms_alive"] == (dense.sum(0) > 0).sum()


def test_the_curves_are_those_of_training_and_the_scores_at_the_share_stand_beside_them(
    at_share, run, layered, tmp_path
):
    folder, records = at_share
    found = events(folder / "0-toy_layer_0")
    trainer = partial(TRAINER, log_every_n_steps=1)
    (plain,) = run(module(seed=3, expansion=4), layered((8,)), trainer=trainer)
    curves = events(tmp_path / "runs" / "version_0" / "0-toy_layer_0")
    assert records[0]["train_lam"] == plain["lam"] == plain["train_lam"]
    assert found["train/S1"][-1].value == pytest.approx(plain["S1"], rel=1e-6)
    assert plain["S1"] != pytest.approx(records[0]["S1"], rel=1e-3)
    beside = {tag for tag in found if tag.startswith("explained_0.9/")}
    assert set(found) - beside == set(curves)
    for tag, points in curves.items():
        assert [(p.step, p.value) for p in found[tag]] == [(p.step, p.value) for p in points], tag
    for prefix, rows in (("", "train"), ("heldout_", "heldout")):
        for score in ("S1", "L_norm", "N0", "L", "explained_variance", "lam"):
            (point,) = found[f"explained_0.9/{rows}/{score}"]
            assert point.value == pytest.approx(records[0][prefix + score], rel=1e-6)


def test_the_share_is_reached_by_all_rows_where_it_is_sought_on_some(run, layered, monkeypatch):
    monkeypatch.setattr(shares, "_SEARCH_ROWS", 40)
    for seed in range(3):
        (record,) = run(module(expansion=4, lam=0.1, seed=seed), layered((8,)), explained_variance=0.9)
        assert 0.9 <= record["explained_variance"] < 0.95


def test_several_fits_each_reach_the_share(run, layered):
    single = [run(module(expansion=4, lam=0.1, seed=seed), layered((8,)), explained_variance=0.9)[0] for seed in (4, 5)]
    (both,) = run(module(expansion=4, lam=0.1, seed=4), layered((8,)), explained_variance=0.9, seeds=2)
    for name in ("S1", "lam", "heldout_explained_variance"):
        assert both[name] == pytest.approx(np.mean([record[name] for record in single]), rel=1e-12)
        assert both["spread"][name] > 0
    assert both["train_lam"] == 0.1
    assert "train_lam" not in both["spread"]


@pytest.mark.filterwarnings("ignore:.*every code is zero")
def test_of_several_shares_the_first_is_that_of_the_record(run, layered, monkeypatch):
    # The search for the first share is misled, so that the second one is reached in a pass before it.
    monkeypatch.setattr(shares, "largest_penalty", lambda *given: (2.0 if given[2] == 0.8 else 0.01, 1.0))
    monkeypatch.setattr(shares, "_SMALLEST_FACTOR", 0.01)
    (record,) = run(module(expansion=4, lam=0.1), layered((8,)), explained_variance=[0.8, 0.9])
    assert record["explained_variance"] >= 0.8
    assert [level["share"] for level in record["frontier"]] == [0.8, 0.9]
    assert record["frontier"][0]["S1"] == record["S1"]


@pytest.mark.filterwarnings("ignore:.*lam is too large")
def test_a_penalty_at_which_all_codes_were_zero_is_no_hindrance(run, layered):
    (record,) = run(module(expansion=4, lam=1000.0), layered((8,)), explained_variance=0.8)
    assert 0.8 <= record["explained_variance"] < 0.802
    assert record["train_lam"] == 1000
    assert not [name for name in record if isinstance(record[name], float) and math.isnan(record[name])]


def test_a_share_that_is_not_reached_is_the_failure_of_that_data_alone(run, tmp_path, capsys):
    random = torch.Generator().manual_seed(0)
    line = torch.randn(200, 1, generator=random) @ torch.ones(1, 8)  # one dimension, which two atoms can tell
    rest = TensorActivations(torch.randn(200, 8, generator=random), name="ball", batches_per_round=2)
    data = [TensorActivations(line, name="line", batches_per_round=2), rest]
    with pytest.raises(
        RuntimeError, match=r"1 of 2 .*explained_variance is 0.98, but .* no more than about 0\.\d+: give"
    ):
        run(module(num_atoms=8, lam=0.1), data, explained_variance=0.98)
    line, ball = written(tmp_path / "runs" / "version_0")
    assert line["explained_variance"] >= 0.98
    assert ball["error"].startswith("explained_variance is 0.98, but")
    assert "failed" in capsys.readouterr().out


@pytest.mark.parametrize("share", [0, 1, -0.1, 98, math.nan])
def test_a_share_that_is_none_is_refused(run, layered, no_fit, share):
    with pytest.raises(ValueError, match=rf"explained_variance is {share}: give a share in \(0, 1\), such as 0.98"):
        run(module(), layered(), explained_variance=share)


# --- failures --------------------------------------------------------------------------------------------------------


def test_a_layer_that_fails_loses_neither_its_control_nor_the_others(run, layered, tmp_path, capsys):
    data = layered((8, 8, 8), broken=1)
    with pytest.raises(RuntimeError, match="1 of 6 data sets failed, the first with RuntimeError: the disk is gone"):
        run(module(lam=0.1), data, Shuffled())
    records = written(tmp_path / "runs" / "version_0")
    assert [record.get("error") for record in records] == [
        None,
        None,
        "RuntimeError: the disk is gone",
        None,
        None,
        None,
    ]
    expected = {"data": "toy layer 1", "model": "toy", "layer": "1", "error": "RuntimeError: the disk is gone"}
    assert records[2] == expected
    assert ["S1_ratio" in record for record in records] == [False, True, False, False, False, True]
    assert records[3]["S1"] > 1
    shown = capsys.readouterr().out
    assert "failed" in shown
    assert (tmp_path / "runs" / "version_0" / "sparsity.png").is_file()


def test_when_all_fail_there_are_files_and_a_table_all_the_same(run, layered, tmp_path, capsys):
    with pytest.raises(RuntimeError, match="1 of 1 data sets failed"):
        run(module(lam=0.1), layered((8,), broken=0))
    assert written(tmp_path / "runs" / "version_0")[0]["error"] == "RuntimeError: the disk is gone"
    assert "failed" in capsys.readouterr().out
    assert not (tmp_path / "runs" / "version_0" / "sparsity.png").exists()


def test_models_of_one_name_are_told_apart(run, layered):
    records = run(SparseCodingModule(8, lam=0.5), [layered((8, 8)), layered((8, 8))], Gaussian())
    models = list(dict.fromkeys(record["model"] for record in records))
    assert models == [models[0], f"{models[0]} (2)"]
    assert len({(record["model"], record["layer"], record["data"]) for record in records}) == len(records) == 8
    for record in records:
        if "control_of" in record:
            assert record["control_of"].startswith(f"{record['model']} ")

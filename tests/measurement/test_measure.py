import csv
import json
import math
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from lightning import Callback, Trainer
from PIL import Image
from sparsecode_control import Gaussian, MatchedGaussian, RandomDictionary, Shuffled
from torchmetrics import MaxMetric

from sparsecode_pl.callbacks.run_checkpoint import checkpoints_in
from sparsecode_pl.data import Control, SampledSource, TensorActivations
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.measurement import load_results
from sparsecode_pl.measurement.trainer import default_trainer
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.scoring import Evaluation, score

SCORES = ["S1", "L_norm", "N0", "L", "explained_variance"]
ALWAYS = {"data", *SCORES, "num_samples", "lam", "atoms_alive", "seconds", "num_distinct", "num_copies", "intervals"}
HELD_OUT = {f"heldout_{name}" for name in [*SCORES, "num_samples"]}
TRUTH = {"half_active", "oracle_S1", "atom_recovery"}


def without_fits(record):
    return {name: value for name, value in record.items() if name != "fits"}


def results(folder):
    """The records in the files of a run, of `results.json` and of `results.csv`."""
    found = [without_fits(record) for record in json.loads((folder / "results.json").read_text())["results"]]
    with (folder / "results.csv").open(newline="") as file:
        return found, list(csv.DictReader(file))


def test_there_is_a_record_for_the_data_and_each_control(run, make_data):
    records = run(SparseCodingModule(16, expansion=2), make_data(), MatchedGaussian(), Gaussian())
    assert [record["data"] for record in records] == ["SparseLinear a=1.5", "MatchedGaussian", "Gaussian"]
    assert records[0].keys() >= ALWAYS | HELD_OUT | TRUTH
    assert not records[0].keys() & {"S1_ratio", "heldout_S1_ratio", "spread"}
    for record in records[1:]:
        assert record.keys() >= ALWAYS | HELD_OUT | {"S1_ratio", "heldout_S1_ratio"}
        assert not record.keys() & TRUTH
        for rows in ("", "heldout_"):
            ratio = records[0][f"{rows}S1"] / record[f"{rows}S1"]
            assert record[f"{rows}S1_ratio"] == pytest.approx(ratio, rel=1e-12)
        assert (record["num_samples"], record["heldout_num_samples"]) == (450, 50)
        assert record["S1"] > records[0]["S1"]  # a Gaussian is less sparse than sparse data


def test_the_figures_are_those_of_the_saved_dictionary(run, make_data, tmp_path):
    data = make_data()
    trainer = partial(default_trainer, accelerator="cpu", devices=1, max_epochs=2)
    (record,) = run(SparseCodingModule(16, expansion=3, scale=True), data, trainer=trainer)
    (folder,) = (tmp_path / "runs" / "version_0").glob("*/dictionary")
    dictionary = Dictionary.from_pretrained(folder)
    for rows, index in (("", data.train_index), ("heldout_", data.heldout_index)):
        codes = dictionary.encode(data.rows[index], record["lam"]).to_dense().double().detach().numpy()
        assert record[f"{rows}N0"] == pytest.approx((codes > 0).sum(1).mean(), rel=1e-6)
        assert record[f"{rows}S1"] == pytest.approx(codes.sum() / codes.max(1).sum(), rel=1e-5)
        if not rows:
            assert record["atoms_alive"] == (codes.sum(0) > 0).sum()
    truth = data.source.ground_truth.codes.to_dense()
    assert record["half_active"] == 0.75
    assert record["oracle_S1"] == pytest.approx(float(truth.sum() / truth.max(1).values.sum()), rel=1e-5)
    cosines = data.source.features @ dictionary.atoms.detach().T
    assert record["atom_recovery"] == pytest.approx(float(cosines.max(1).values.mean()), rel=1e-5)
    assert record["num_atoms"] == 48


def test_the_files_hold_the_records(run, make_data, tmp_path):
    settings = {"data": {"class_path": "SparseLinear"}, "seeds": 1}
    records = run(SparseCodingModule(16, expansion=2), make_data(), Gaussian(), settings=settings)
    folder = tmp_path / "runs" / "version_0"
    written, table = results(folder)
    assert len(written) == len(table) == len(records)
    for content, row, record in zip(written, table, records, strict=True):
        expected = {name: value for name, value in record.items() if name != "intervals"}
        intervals = record["intervals"]
        assert content == expected | {"intervals": {name: list(ends) for name, ends in intervals.items()}}
        expected |= {f"{name}_low": low for name, (low, _) in intervals.items()}
        expected |= {f"{name}_high": high for name, (_, high) in intervals.items()}
        assert {name: value for name, value in row.items() if value} == {k: str(v) for k, v in expected.items()}
    whole = json.loads((folder / "results.json").read_text())
    assert {name: whole["settings"][name] for name in settings} == settings
    assert whole["format"] == 3
    assert whole["complete"]
    assert whole["versions"]["torch"] == torch.__version__
    assert whole["versions"]["sparsecode-pl"]
    assert not list(folder.glob("*.partial"))


def test_the_picture_is_a_png_that_grows_with_the_controls(run, make_data, tmp_path):
    for number, controls in enumerate([[], [Gaussian(), Shuffled(), MatchedGaussian()]]):
        run(SparseCodingModule(16, expansion=2, lam=0.1), make_data(batches_per_round=2), *controls)
        assert (tmp_path / "runs" / f"version_{number}" / "sparsity.png").stat().st_size > 5000
    sizes = []
    for number in range(2):
        with Image.open(tmp_path / "runs" / f"version_{number}" / "sparsity.png") as image:
            assert image.format == "PNG"
            sizes.append(image.size)
    assert sizes[0][0] == sizes[1][0] > 1000
    assert 250 < sizes[0][1] < sizes[1][1] < 2000


def test_the_given_module_stays_as_it_was_and_each_fit_has_a_fresh_one(run, make_data):
    module = SparseCodingModule(16, expansion=2, init="random", seed=3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modules = []

    def trainer(fitted, folder):
        modules.append(fitted)
        return default_trainer(fitted, folder, accelerator="cpu", devices=1, max_epochs=1)

    run(module, make_data(batches_per_round=2), Gaussian(), trainer=trainer)
    assert len({id(each) for each in [module, *modules]}) == 3
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]) or value.isnan().all()
    assert [each.seed for each in modules] == [3, 3]


def test_without_held_out_rows_there_are_no_held_out_figures(run, make_data, tmp_path, capsys):
    records = run(SparseCodingModule(16, expansion=2), make_data(val_split=0), Gaussian())
    for record in records:
        assert record.keys() >= ALWAYS
        assert not [name for name in record if name.startswith("heldout")]
        assert record["num_samples"] == 500
    assert (tmp_path / "runs" / "version_0" / "sparsity.png").is_file()
    printed = capsys.readouterr().out
    assert "Gaussian" in printed
    assert "held out" not in printed


def test_seeds_give_the_mean_and_the_spread_of_single_runs(run, make_data):
    single = []
    for seed in (4, 5):
        data, control = run(SparseCodingModule(16, expansion=2, seed=seed), make_data(), Gaussian())
        single.append((data, control))
    both = run(SparseCodingModule(16, expansion=2, seed=4), make_data(), Gaussian(), seeds=2)
    for number, record in enumerate(both):
        one, two = (runs[number] for runs in single)
        for name in [*SCORES, *(f"heldout_{each}" for each in SCORES), "lam"]:
            assert one[name] != two[name]
            assert record[name] == pytest.approx(np.mean([one[name], two[name]]), rel=1e-12)
            assert record["spread"][name] == pytest.approx(np.std([one[name], two[name]], ddof=1), rel=1e-9)
        assert record["num_samples"] == 450
        assert record["data"] == one["data"]
    assert both[1]["S1_ratio"] == pytest.approx(both[0]["S1"] / both[1]["S1"], rel=1e-12)


def test_the_spread_is_in_the_files_and_in_the_table(run, make_data, tmp_path, capsys):
    (record,) = run(SparseCodingModule(16, expansion=2, lam=0.1), make_data(), seeds=2)
    (written,), (row,) = results(tmp_path / "runs" / "version_0")
    assert written["spread"]["S1"] == record["spread"]["S1"] > 0
    assert float(row["S1_spread"]) == record["spread"]["S1"]
    assert f"±{record['spread']['S1']:.1g}" in capsys.readouterr().out


def test_not_a_number_becomes_null_and_an_empty_cell(run, make_data, tmp_path, capsys):
    with pytest.warns(UserWarning, match="lam"):
        data, control = run(SparseCodingModule(16, expansion=2, lam=1000.0), make_data(), Gaussian())
    assert math.isnan(data["S1"])
    assert math.isnan(control["S1_ratio"])
    written, table = results(tmp_path / "runs" / "version_0")
    assert written[0]["S1"] is written[0]["heldout_L_norm"] is written[1]["S1_ratio"] is None
    assert written[0]["N0"] == data["N0"] == 0
    assert table[0]["S1"] == ""
    assert "NaN" not in (tmp_path / "runs" / "version_0" / "results.json").read_text()
    assert "nan" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*lam")
def test_not_a_number_in_several_fits_is_no_crash(run, make_data):
    (record,) = run(SparseCodingModule(16, expansion=2, lam=1000.0), make_data(), seeds=2)
    assert math.isnan(record["S1"])
    assert record["N0"] == 0


def test_each_run_has_the_next_number(run, make_data, tmp_path):
    for name in ("version_7", "version_old", "elsewhere"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    for _ in range(2):
        run(SparseCodingModule(16, expansion=2, lam=0.1), make_data(batches_per_round=1))
    for number in (8, 9):
        assert (tmp_path / "runs" / f"version_{number}" / "results.json").is_file()
    assert len(list((tmp_path / "runs").iterdir())) == 5


class Falling(SampledSource):
    """Rows that cannot be drawn when the time comes."""

    d_model = 16

    def draw(self, num, random):
        raise RuntimeError("the disk is gone")


class Stumbling(Control):
    """A control that fails, once its fit has begun."""

    def of(self, source):
        return Falling(300, False, 0)


def test_what_was_measured_survives_a_control_that_fails(run, make_data, tmp_path):
    with pytest.raises(RuntimeError, match="the disk is gone"):
        run(SparseCodingModule(16, expansion=2), make_data(), Gaussian(), Stumbling())
    folder = tmp_path / "runs" / "version_0"
    written, table = results(folder)
    assert [record["data"] for record in written] == ["SparseLinear a=1.5", "Gaussian", "Stumbling"]
    assert written[2]["error"] == "RuntimeError: the disk is gone"
    assert [row["error"] for row in table] == ["", "", "RuntimeError: the disk is gone"]
    with Image.open(folder / "sparsity.png") as image:
        image.verify()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_fitted(run, make_data, tmp_path, no_fit):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=rf"output folder {tmp_path}/file/runs cannot be written .*: give another folder"):
        run(SparseCodingModule(16), make_data(), folder=tmp_path / "file" / "runs")


def test_no_seed_is_refused(run, make_data, no_fit):
    with pytest.raises(ValueError, match="seeds is 0: give at least 1"):
        run(SparseCodingModule(16), make_data(), seeds=0)


def test_a_control_of_another_width_is_refused_before_anything_is_fitted(run, make_data, no_fit):
    with pytest.raises(ValueError, match=r"d_model is 8, but SparseLinear a=1.5 has width 16"):
        run(SparseCodingModule(16), make_data(), Gaussian(d_model=8))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.full((100, 16), torch.nan), r"1600 of 1600 activations are NaN or infinite"),
        (torch.randn(100, 8), "width 8"),
    ],
    ids=["NaN", "width"],
)
def test_a_control_with_bad_rows_is_refused_before_anything_is_fitted(run, make_data, no_fit, rows, message):
    with pytest.raises(ValueError, match=message):
        run(SparseCodingModule(16), make_data(), TensorActivations(rows))


def test_the_default_trainer_takes_the_settings_of_lightnings(tmp_path):
    trainer = default_trainer(SparseCodingModule(4), tmp_path / "run", enable_progress_bar=False, max_epochs=7)
    assert isinstance(trainer, Trainer)
    assert trainer.max_epochs == 7


SCORED_ANEW = """
import sys, torch
from sparsecode_pl import Dictionary, load_results, score
from sparsecode_pl.measurement import ExactCodes
from sparsecode_pl.scoring import Scores

rows = torch.load(sys.argv[1])
for record in (record for folder in sys.argv[2:] for record in load_results(folder).records):
    dictionary = Dictionary.from_pretrained(record.folder / "dictionary")
    assert dictionary.lam == record["lam"]
    for prefix, x in rows.items():
        dictionary.lam = record.get(prefix + "lam", record["lam"])
        for name, value in score(dictionary, x, [Scores(), ExactCodes()]).items():
            if prefix + name in record:
                print(record.data, prefix + name, float(value), record[prefix + name])
"""


def test_in_a_new_process_the_dictionary_gives_the_scores_of_its_record(run, make_data, tmp_path):
    data = make_data()
    for options in ({}, {"explained_variance": 0.9}):
        run(SparseCodingModule(16, expansion=3, scale=True), data, RandomDictionary(), exact=True, **options)
    torch.save({"": data.rows[data.train_index], "heldout_": data.rows[data.heldout_index]}, tmp_path / "rows.pt")
    folders = [str(tmp_path / "runs" / f"version_{number}") for number in range(2)]
    words = [sys.executable, "-c", SCORED_ANEW, str(tmp_path / "rows.pt"), *folders]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    lines = [line.rsplit(" ", 3) for line in done.stdout.splitlines()]
    assert len(lines) == 2 * 2 * 2 * (len(SCORES) + 7)
    for label, name, found, expected in lines:
        # Exact codes end at a duality gap of 1e-4, which rounding lets a row reach one sweep sooner or later.
        exact = "exact" in name or "gap" in name
        assert float(found) == pytest.approx(
            float(expected), rel=1e-4 if exact else 1e-6, abs=1e-4 if "gap" in name else 1e-6
        ), (
            label,
            name,
        )


def test_predict_codes_at_the_penalty_of_the_table(run, make_data, tmp_path):
    trainer = partial(default_trainer, accelerator="cpu", devices=1, max_epochs=2)
    data = make_data()
    (record,) = run(SparseCodingModule(16, expansion=3), data, trainer=trainer, explained_variance=0.9)
    checkpoint = checkpoints_in(record.folder / "checkpoints")[0]
    assert record["lam"] != record["train_lam"]
    module = SparseCodingModule.load_from_checkpoint(checkpoint)
    assert module.dictionary.lam == Dictionary.from_checkpoint(checkpoint).lam == record["lam"]
    batches = trainer(module, tmp_path / "p").predict(module, data)
    index = torch.cat([index for index, _ in batches])
    trained = torch.cat([codes.to_dense() for _, codes in batches])[torch.isin(index, data.train_index)]
    assert float((trained > 0).double().sum(1).mean()) == pytest.approx(record["N0"])


def test_the_cards_tell_the_scores_and_those_of_the_controls(run, make_data):
    record, control = run(SparseCodingModule(16, expansion=2), make_data(), Gaussian())
    card = record.dictionary.card
    assert card.scores["heldout_S1"] == record["heldout_S1"]
    assert card.controls == {"Gaussian": control.scores}
    assert (card.data, card.rows, card.seed) == ("SparseLinear a=1.5", {"train": 450, "heldout": 50}, 0)
    assert card.intervals == record["intervals"]
    assert card.control_intervals == {"Gaussian": control["intervals"]}
    assert control.dictionary.card.controls == {}
    assert control.dictionary.card.intervals == {name: control["intervals"][name] for name in card.intervals}
    assert "| Gaussian |" in (record.folder / "dictionary" / "README.md").read_text()


def test_a_share_out_of_reach_keeps_the_scores_at_the_penalty_of_training(run, make_data, tmp_path):
    with pytest.raises(RuntimeError, match=r"1 of 1 data sets failed, the first with explained_variance is 0.9999"):
        run(SparseCodingModule(16, num_atoms=8), make_data(), explained_variance=0.9999)
    (record,) = load_results(tmp_path / "runs" / "version_0").records
    (plain,) = run(SparseCodingModule(16, num_atoms=8), make_data())
    assert "S1" not in record
    assert record.fits[0].training_penalty_scores["heldout_S1"] == plain["heldout_S1"]
    assert record.dictionary.lam == plain["lam"]


class Largest(Evaluation):
    """Somebody else's evaluation."""

    def metrics(self, codec):
        return {"largest": MaxMetric()}

    def update(self, metrics, batch):
        metrics["largest"].update(batch.at().codes.values())


@pytest.mark.parametrize("share", [None, 0.9])
def test_the_values_of_an_evaluation_are_part_of_the_record(run, make_data, share):
    data = make_data()
    (record,) = run(
        SparseCodingModule(16, expansion=2, lam=0.1), data, evaluations=[Largest()], explained_variance=share
    )
    for prefix, index in (("", data.train_index), ("heldout_", data.heldout_index)):
        lam = record.get(f"{prefix}lam", record["lam"])  # at a share, held-out rows have a penalty of their own
        expected = record.dictionary.encode(data.rows[index], lam).values().max()
        assert record[f"{prefix}largest"] == pytest.approx(float(expected), rel=1e-6)


class Clashing(Largest):
    def metrics(self, codec):
        return {self.taken: MaxMetric()}


@pytest.mark.parametrize(("taken", "message"), [("S1", "gives S1, as another one does"), ("lam", "gives lam, a name")])
def test_an_evaluation_never_takes_the_name_of_a_score(run, make_data, no_fit, taken, message):
    evaluation = Clashing()
    evaluation.taken = taken
    with pytest.raises(ValueError, match=message):
        run(SparseCodingModule(16, expansion=2), make_data(), evaluations=[evaluation])


def test_a_class_in_place_of_an_evaluation_is_refused(run, make_data, no_fit):
    with pytest.raises(TypeError, match="give an object of a subclass of Evaluation"):
        run(SparseCodingModule(16, expansion=2), make_data(), evaluations=[Largest])


def test_two_ways_to_set_the_penalty_for_scoring_are_refused(run, make_data, no_fit):
    with pytest.raises(ValueError, match=r"explained_variance is \[0.9\] and eval_lam 0.05, .*: give one of them"):
        run(SparseCodingModule(16, expansion=2, eval_lam=0.05), make_data(), explained_variance=0.9)


class Failing(Largest):
    def update(self, metrics, batch):
        raise RuntimeError("boom")


def test_what_training_gave_survives_an_evaluation_that_fails(run, make_data, tmp_path):
    with pytest.raises(RuntimeError, match="the first with RuntimeError: boom"):
        run(SparseCodingModule(16, expansion=2, lam=0.1), make_data(), evaluations=[Failing()])
    (record,) = load_results(tmp_path / "runs" / "version_0").records
    (plain,) = run(SparseCodingModule(16, expansion=2, lam=0.1), make_data())
    assert record.fits[0].training_penalty_scores["heldout_S1"] == plain["heldout_S1"]
    assert record.fits[0].training_penalty_scores["lam"] == 0.1
    assert record.dictionary.lam == 0.1
    assert "boom" in (record.folder / "error.txt").read_text()


def test_however_training_stops_the_penalty_is_the_one_that_was_scored(run, make_data, tmp_path):
    """Whoever ends it after a round, `AdaptivePenalty` has set the next penalty by then."""

    class Stop(Callback):
        def on_validation_end(self, trainer, pl_module):
            trainer.should_stop = True

    trainer = partial(default_trainer, accelerator="cpu", devices=1, callbacks=[Stop()])
    data = make_data()
    (record,) = run(SparseCodingModule(16, expansion=3), data, trainer=trainer)
    checkpoint = checkpoints_in(record.folder / "checkpoints")[0]
    for dictionary in (record.dictionary, Dictionary.from_checkpoint(checkpoint)):
        assert dictionary.lam == record["lam"] == record["train_lam"]
        assert float(score(dictionary, data.rows[data.train_index])["L"]) == pytest.approx(record["L"], rel=1e-6)
        assert dictionary.card.scores["S1"] == record["S1"]


def test_a_checkpoint_at_a_share_has_the_scores_of_that_share_on_its_card(run, make_data):
    trainer = partial(default_trainer, accelerator="cpu", devices=1, max_epochs=2)
    (record,) = run(SparseCodingModule(16, expansion=3), make_data(), trainer=trainer, explained_variance=0.9)
    checkpoint = checkpoints_in(record.folder / "checkpoints")[0]
    dictionary = Dictionary.from_checkpoint(checkpoint)
    assert (dictionary.lam, dictionary.card.scores["S1"]) == (record["lam"], record["S1"])


def test_controls_of_one_name_are_told_apart(run, make_data):
    record, one, other = run(SparseCodingModule(16, expansion=2, lam=0.1), make_data(), Gaussian(), Gaussian(seed=1))
    assert (one["data"], other["data"]) == ("Gaussian", "Gaussian (2)")
    assert one["S1"] != other["S1"]
    assert set(record.dictionary.card.controls) == {"Gaussian", "Gaussian (2)"}


def test_the_values_of_an_evaluation_stand_below_the_table(run, make_data, capsys):
    run(SparseCodingModule(16, expansion=2, lam=0.1), make_data(), evaluations=[Largest()])
    assert "largest: SparseLinear a=1.5 " in capsys.readouterr().out

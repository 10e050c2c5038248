import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from sparsecode_pl.cli import main
from sparsecode_pl.module import SparseCodingModule


def test_measure_holds_data_against_controls_by_their_short_names(here, capsys, measure_words):
    controls = ["--controls+=MatchedGaussian", "--controls+=Gaussian", "--controls.stream=true"]
    main([*measure_words, *controls, "--model.expansion=2", "--output=out", "--data.val_split=0.2"])
    shown = capsys.readouterr().out
    written = json.loads((here / "out" / "version_0" / "results.json").read_text())
    assert [record["data"] for record in written["results"]] == ["SparseLinear a=1.5", "MatchedGaussian", "Gaussian"]
    for record in written["results"]:
        assert record["data"] in shown
        assert (record["num_samples"], record["heldout_num_samples"], record["num_atoms"]) == (400, 100, 32)
    assert (here / "out" / "version_0" / "results.csv").is_file()
    assert (here / "out" / "version_0" / "sparsity.png").is_file()
    settings = written["settings"]
    assert settings["data"]["init_args"]["active"] == 1.5
    assert [control["class_path"].split(".")[-1] for control in settings["controls"]] == ["MatchedGaussian", "Gaussian"]
    assert settings["model"]["expansion"] == 2
    assert len(list(here.rglob("events.out.tfevents*"))) == 4  # a run of its own for each, and one for the picture
    assert not (here / "lightning_logs").exists()


def test_measure_is_the_fit_of_the_same_arguments(fitted, here, measure_words, final_scores):
    main([*measure_words, "--model.expansion=3", "--model.scale=true", "--output=out"])
    (record,) = json.loads((here / "out" / "version_0" / "results.json").read_text())["results"]
    expected = final_scores(fitted)
    for rows, prefix in (("train", ""), ("heldout", "heldout_")):
        for score in ("S1", "L_norm", "N0", "L", "explained_variance"):
            assert record[f"{prefix}{score}"] == pytest.approx(expected[f"{rows}/{score}"], rel=1e-5)


def test_measure_takes_seeds(here, measure_words):
    main([*measure_words, "--seeds=2", "--model.lam=0.1", "--data.batches_per_round=1", "--output=out"])
    (record,) = json.loads((here / "out" / "version_0" / "results.json").read_text())["results"]
    assert record["spread"]["S1"] > 0


def test_measure_takes_further_data_a_share_and_jobs(here, capsys, measure_words):
    also = ["--also+=Gaussian", "--also.d_model=16", "--also.num_samples=400", "--also.batches_per_round=3"]
    options = ["--controls+=RandomDictionary", "--explained_variance=0.9", "--jobs=2", "--output=out"]
    main([*measure_words, *also, *options, "--model.expansion=4"])
    whole = json.loads((here / "out" / "version_0" / "results.json").read_text())
    records = whole["results"]
    names = ["SparseLinear a=1.5", "RandomDictionary", "Gaussian", "RandomDictionary"]
    assert [record["data"] for record in records] == names
    assert [record.get("control_of") for record in records] == [None, names[0], None, names[2]]
    assert [record["num_samples"] for record in records] == [450, 450, 360, 360]
    for record in records:
        assert 0.9 <= record["explained_variance"] < 0.902
    assert len(list((here / "out").rglob("dictionary.safetensors"))) == 4
    settings = whole["settings"]
    assert settings["explained_variance"] == 0.9
    assert settings["also"][0]["init_args"]["num_samples"] == 400
    assert "How sparse are SparseLinear a=1.5, Gaussian?" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("words", "exact"), [(["--exact"], True), (["--exact=false"], False), ([], False)])
def test_measure_takes_exact_as_a_flag(here, capsys, words, exact, measure_words):
    main([*measure_words, *words, "--model.lam=0.1", "--data.batches_per_round=1", "--output=out"])
    whole = json.loads((here / "out" / "version_0" / "results.json").read_text())
    assert whole["settings"]["exact"] is exact
    assert ("heldout_coding_gap" in whole["results"][0]) is exact
    assert ("exact codes" in capsys.readouterr().out) is exact


def test_in_measure_one_fit_leaves_no_trace_in_the_callbacks_of_the_next(here, measure_words):
    stopping = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=train/L"]
    never_enough = ["--trainer.callbacks.min_delta=1e6", "--trainer.callbacks.patience=1"]
    options = ["--controls+=Gaussian", "--model.lam=0.1", "--output=out", "--trainer.max_epochs=5"]
    main([*measure_words, *stopping, *never_enough, *options])
    results = json.loads((here / "out" / "version_0" / "results.json").read_text())["results"]
    assert [record["rounds"] for record in results] == [2, 2]


def test_measure_takes_evaluations_by_name_and_exact_is_one_of_them(here, measure_words):
    short = ["--model.lam=0.1", "--data.batches_per_round=1", "--output=out"]
    for words in (["--exact"], ["--evaluations+=ExactCodes"]):
        main([*measure_words, *words, *short])
    by_flag, by_name = (
        json.loads((here / "out" / f"version_{number}" / "results.json").read_text())["results"][0]
        for number in range(2)
    )
    assert by_name["exact_S1"] >= 1
    assert by_name["coding_gap"] >= 0
    assert by_name.keys() == by_flag.keys()
    assert {name: by_name[name] for name in by_name if "exact" in name or "gap" in name} == {
        name: by_flag[name] for name in by_flag if "exact" in name or "gap" in name
    }


def test_measure_takes_evaluations_of_ones_own(here, measure_words, monkeypatch):
    (here / "own_evaluation.py").write_text(
        """
from torchmetrics import SumMetric
from sparsecode_pl.scoring import Evaluation

class CountRows(Evaluation):
    def __init__(self, times: int = 1):
        self.times = times

    def metrics(self, codec):
        return {"counted": SumMetric()}

    def update(self, metrics, batch):
        metrics["counted"].update(self.times * len(batch.rows))
"""
    )
    monkeypatch.syspath_prepend(here)
    own = ["--evaluations+=own_evaluation.CountRows", "--evaluations.times=3"]
    main([*measure_words, *own, "--model.lam=0.1", "--data.batches_per_round=1", "--output=out", "--jobs=1"])
    (record,) = json.loads((here / "out" / "version_0" / "results.json").read_text())["results"]
    assert (record["counted"], record["heldout_counted"]) == (3 * 450, 3 * 50)


@pytest.mark.parametrize("shares", [[0.8], [0.8, 0.9, 0.6]], ids=["one", "several"])
def test_measure_takes_several_shares_and_resumes_with_the_same(here, capsys, measure_words, monkeypatch, shares):
    given = str(shares).replace(" ", "") if len(shares) > 1 else str(shares[0])
    words = [*measure_words, f"--explained_variance={given}", "--model.lam=0.1", "--model.expansion=3", "--jobs=1"]
    main([*words, "--output=out"])
    run = here / "out" / "version_0"
    before = (run / "results.json").read_text()
    (record,) = json.loads(before)["results"]
    assert 0.8 <= record["explained_variance"] < 0.81
    assert [level["share"] for level in record.get("frontier", [])] == (sorted(shares) if len(shares) > 1 else [])
    assert (run / "frontier.png").is_file() == (len(shares) > 1)
    table = "S1 of held-out rows where the codes explain a share of"
    assert (table in " ".join(capsys.readouterr().out.split())) == (len(shares) > 1)
    monkeypatch.setattr(SparseCodingModule, "training_step", lambda *_: pytest.fail("training has begun"))
    main([*words, f"--resume={run}"])
    assert (run / "results.json").read_text() == before


def test_measure_scores_unseen_tokens_of_text(here, capsys, text_words):
    words = ["measure", *text_words, "--model.lam=0.5", "--model.expansion=2", "--jobs=1", "--output=out"]
    main([*words, "--controls+=RepeatedGaussian"])
    main([*words, "--data.heldout_by=rows", "--data.unseen_split=0"])
    (text, control), (rows,) = (
        json.loads((here / "out" / f"version_{number}" / "results.json").read_text())["results"] for number in range(2)
    )
    shown = capsys.readouterr().out
    assert text["unseen_S1"] >= 1
    assert control["unseen_S1_ratio"] == pytest.approx(text["unseen_S1"] / control["unseen_S1"])
    assert text["num_types"] == rows["num_types"] == 50
    assert "Training rows / held-out rows / unseen tokens" in shown
    assert (rows["num_samples"], rows["heldout_num_samples"]) == (720, 80)
    assert not [name for name in rows if name.startswith("unseen")]


@pytest.fixture
def autoencoder(here):
    """Writes a folder of sparsify, whose width is given."""

    def autoencoder(name, width):
        (here / name).mkdir()
        tensors = {"encoder.weight": torch.eye(width), "encoder.bias": torch.zeros(width)}
        save_file(tensors | {"W_dec": torch.eye(width), "b_dec": torch.zeros(width)}, here / name / "sae.safetensors")
        (here / name / "cfg.json").write_text(json.dumps({"d_in": width, "k": 3}))
        return name

    return autoencoder


def test_measure_holds_data_against_autoencoders(here, capsys, measure_words, autoencoder, monkeypatch):
    monkeypatch.setattr(sys.modules["sparsecode_pl.measurement.report"], "draw", lambda *_: None)  # after each of 17
    words = [*measure_words, "--model.lam=0.1", "--data.batches_per_round=1", "--jobs=1", "--output=out"]
    for name in ("one", "two"):
        autoencoder(name, 16)
    main([*words, "--sae+=one", "--sae+=two"])
    run = here / "out" / "version_0"
    written = json.loads((run / "results.json").read_text())
    assert written["settings"]["sae"] == ["one", "two"]
    assert [record.get("arm", {}).get("sae") for record in written["results"]] == [None, *["one"] * 8, *["two"] * 8]
    shown = " ".join(capsys.readouterr().out.split())
    assert "one, own encoder" in shown
    assert "two at SparseLinear a=1.5, held-out rows: with N0" in shown
    before = (run / "results.json").read_bytes()
    main([*words, "--sae=[one,two]", f"--resume={run}"])
    assert (run / "results.json").read_bytes() == before


def test_measure_refuses_an_autoencoder_that_does_not_fit(refused, measure_words, autoencoder):
    words = [*measure_words, "--model.lam=0.1"]
    assert "sae is 'nowhere', and there is no such folder: give a folder" in refused(*words, "--sae=nowhere")
    message = refused(*words, f"--sae={autoencoder('wide', 17)}")
    assert "sae is 'wide', whose width is 17, and the data have width 16: give data of the layer" in message

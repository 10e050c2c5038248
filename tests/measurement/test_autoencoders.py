"""Autoencoders beside the data; they are of sparsify's format, which needs no other package."""

import json
import math
import pickle
import shutil
import sys

import pytest
import torch
from matplotlib.colors import to_hex
from rich.console import Console
from safetensors.torch import save_file
from torch.nn.functional import normalize

from sparsecode_pl.coding import GreedyCoder, LassoCoder, MatchingPursuitCoder
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.interchange import load_autoencoder
from sparsecode_pl.measurement import load_results
from sparsecode_pl.measurement.autoencoder_notes import autoencoder_notes
from sparsecode_pl.measurement.counts import score_at_count
from sparsecode_pl.measurement.penalty import ShareNotReachedError, penalty_of_count
from sparsecode_pl.measurement.picture import draw_bars, draw_layers
from sparsecode_pl.measurement.report import print_table
from sparsecode_pl.measurement.subjects import prepare
from sparsecode_pl.metrics.functional import oracle_sparsity
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.scoring import Scores, score

ARMS = [
    "mine, own encoder",
    "mine, greedy, same N0",
    "mine, exact, same N0",
    "mine, pursuit, same N0",
    "learnt dictionary, N0 of mine",
    "mine, greedy, same expl. var.",
    "mine, exact, same expl. var.",
    "learnt dictionary, expl. var. of mine",
]


def write(folder, features, k=2, bias=-0.05):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"encoder.weight": features, "encoder.bias": torch.full((len(features),), bias)}
    tensors |= {"W_dec": 2 * features, "b_dec": torch.zeros(features.shape[1])}
    save_file({name: each.contiguous() for name, each in tensors.items()}, folder / "sae.safetensors")
    config = {"d_in": features.shape[1], "k": k, "num_latents": len(features)}
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def near(features, noise=0.1):
    random = torch.Generator().manual_seed(0)
    return normalize(features + noise * torch.randn(features.shape, generator=random), dim=1)


def module(**settings):
    return SparseCodingModule(**{"d_model": 16, "expansion": 2, "lam": 0.1, **settings})


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Leaves out the pictures of runs, which are drawn anew after each of many fits, and tested below."""
    for name in ("draw", "draw_frontier"):
        monkeypatch.setattr(sys.modules["sparsecode_pl.measurement.report"], name, lambda *_: None)


@pytest.fixture
def mine(tmp_path, make_data):
    """The folder of an autoencoder whose features are nearly the true ones."""
    return write(tmp_path / "mine", 0.5 * near(make_data().source.ground_truth.features))


def test_own_codes_and_others_at_the_same_n0_and_variance_stand_beside_the_data(run, make_data, mine, tmp_path):
    data = make_data()
    measured, *arms = run(module(), data, saes=[mine])
    assert [record["data"] for record in arms] == ARMS
    assert all((record["sae"], record["control_of"]) == ("mine", measured["data"]) for record in arms)
    assert "sae" not in measured
    own, *others = arms
    for prefix, index in (("", data.train_index), ("heldout_", data.heldout_index)):
        rows = data.rows[index]
        codec = load_autoencoder(mine)
        codec.lam = own["lam"]
        expected = score(codec, rows)
        for name in ("S1", "N0", "L_norm", "explained_variance"):
            assert own[prefix + name] == pytest.approx(float(expected[name]), rel=1e-4)
        assert own[prefix + "S1"] == pytest.approx(float(oracle_sparsity(codec.encode(rows))), rel=1e-5)
        for record in (*others[:2], others[3]):
            assert record[prefix + "N0"] == pytest.approx(own[prefix + "N0"], rel=0.02)
        for record in others[4:]:
            assert 0 <= record[prefix + "explained_variance"] - own[prefix + "explained_variance"] < 0.01
    largest = load_autoencoder(mine).encode(data.rows[data.train_index]).to_dense().amax(dim=1).mean()
    assert own["lam"] == pytest.approx(0.1 * float(largest), rel=1e-5)
    for coder, record in ((GreedyCoder(), others[0]), (LassoCoder(), others[1])):
        codec = load_autoencoder(mine).with_coder(coder)
        expected = score(codec, data.rows[data.heldout_index], [Scores(record["heldout_lam"])])
        assert record["heldout_L"] == pytest.approx(float(expected["L"]), rel=1e-4)
        assert record["heldout_S1"] == pytest.approx(float(expected["S1"]), rel=1e-3)
    for record in arms:
        assert record["S1_ratio"] == pytest.approx(measured["S1"] / record["S1"])
        assert set(record["intervals"]) >= {"S1", "heldout_explained_variance", "heldout_S1_ratio"}
        assert 0 < record["atoms_alive"] <= record["num_atoms"] == 32
    pursuit = load_autoencoder(mine).with_coder(MatchingPursuitCoder(round(own["N0"])))
    again = score(pursuit, data.rows[data.heldout_index], [Scores(own["lam"])])
    assert others[2]["heldout_explained_variance"] == pytest.approx(float(again["explained_variance"]))
    again = score(measured.dictionary, data.rows[data.heldout_index], [Scores(others[3]["heldout_lam"])])
    assert others[3]["heldout_N0"] == pytest.approx(float(again["N0"]))
    read = load_results(tmp_path / "runs" / "version_0")
    assert [record.sae for record in read.records] == [None, *["mine"] * 8]
    assert [dict(record) for record in read.records] == [dict(record) for record in (measured, *arms)]


def test_with_shares_and_seeds_own_codes_are_scored_as_they_are_and_once(run, make_data, mine):
    measured, own, *_ = run(module(), make_data(), saes=[mine], seeds=2, explained_variance=[0.6, 0.8])
    assert len(measured.fits) == 2
    assert len(own.fits) == 1
    assert "spread" not in own
    assert "frontier" not in own
    expected = score(load_autoencoder(mine).adapt_penalty(make_data().rows), make_data().rows)
    assert own["explained_variance"] == pytest.approx(float(expected["explained_variance"]), abs=0.02)


def test_other_processes_are_given_names_and_no_tensors(make_data, mine):
    (measured, *arms) = prepare(module(), make_data(), saes=[mine])
    assert [subject.title for subject in arms] == ARMS
    assert all(len(pickle.dumps(subject.arm)) < 1000 for subject in arms)
    assert measured.arm is None


def test_an_autoencoder_stands_beside_the_layer_that_it_is_of(run, layered, tmp_path):
    data = layered(widths=(8, 8))
    features = near(torch.eye(8))
    sae = write(tmp_path / "layers.0", features)  # what leaves block 0 is hidden state 1
    records = run(module(d_model=8), data, saes=[sae])
    assert [record["data"] for record in records if "sae" not in record] == [f"toy layer {n}" for n in range(2)]
    assert {record["layer"] for record in records if "sae" in record} == {"1"}
    assert len(records) == 10
    anywhere = write(tmp_path / "anywhere", features)
    subjects = prepare(module(d_model=8), layered(widths=(8, 6, 8)), saes=[anywhere, anywhere])
    assert [subject.place.layer for subject in subjects if subject.arm is not None] == ["0"] * 16 + ["2"] * 16
    assert {subject.arm.name for subject in subjects if subject.arm is not None} == {"anywhere", "anywhere (2)"}


def test_what_fits_no_layer_is_refused_before_anything_begins(run, layered, make_data, tmp_path, no_fit):
    wide = write(tmp_path / "wide", torch.eye(12))
    with pytest.raises(ValueError, match=r"wide', whose width is 12, and the data have width 6, 8: give data of the"):
        run(module(d_model=8), layered(widths=(8, 6)), saes=[wide])
    elsewhere = write(tmp_path / "layers.5", torch.eye(8))
    with pytest.raises(ValueError, match=r"layers.5', which is of layers.5, and the data are of layer 0, 1: give data"):
        run(module(d_model=8), layered(widths=(8, 8)), saes=[elsewhere])
    with pytest.raises(FileNotFoundError, match="sae is 'nowhere', and there is no such folder"):
        run(module(), make_data(), saes=["nowhere"])


def test_another_model_is_a_warning_with_both_names(layered, tmp_path):
    sae = write(tmp_path / "run" / "layers.0", torch.eye(8))
    (tmp_path / "run" / "config.json").write_text(json.dumps({"model": "me/other"}))
    with pytest.warns(UserWarning, match="says that it is of me/other, and the data are of toy"):
        prepare(module(d_model=8), layered(widths=(8, 8)), saes=[sae])


@pytest.mark.filterwarnings("ignore:.*scores of these rows are left out")
def test_what_cannot_match_is_left_out_and_the_rest_is_there(run, make_data, tmp_path):
    noise = torch.randn(32, 16, generator=torch.Generator().manual_seed(1))
    sae = write(tmp_path / "mine", noise, k=30, bias=5.0)
    with pytest.warns(UserWarning, match=r"same expl. var.: the own codes explain -\d.*which no penalty is sought for"):
        measured, own, *others = run(module(), make_data(), saes=[sae])
    assert own["explained_variance"] < 0
    # 30 of 32 atoms of width 16 are never needed, and matching pursuit alone takes as many as it is told to.
    assert [record["data"] for record in others if "S1" in record] == ["mine, pursuit, same N0"]
    assert math.isfinite(measured["S1"])
    console = Console(width=140, record=True)
    print_table([measured, own, *others], console)
    assert "mine, exact, same expl. var." in " ".join(console.export_text().split())


def test_a_run_is_resumed_with_the_same_files_alone(run, make_data, mine, tmp_path):
    first = run(module(), make_data(), saes=[mine])
    folder = tmp_path / "runs" / "version_0"
    (left_out,) = folder.glob("*greedy_same_N0")
    kept = (folder / "0-SparseLinear_a_1.5" / "fit.json").stat().st_mtime_ns
    shutil.rmtree(left_out)
    again = run(module(), make_data(), saes=[mine], resume=folder)
    assert (folder / "0-SparseLinear_a_1.5" / "fit.json").stat().st_mtime_ns == kept
    assert [record["heldout_S1"] for record in again] == [record["heldout_S1"] for record in first]
    write(mine, torch.eye(16))
    with pytest.raises(ValueError, match=r"sae_files is .* but the run in .* was made with"):
        run(module(), make_data(), saes=[mine], resume=folder)
    with pytest.raises(ValueError, match="subjects"):
        run(module(), make_data(), resume=folder)


# --- the penalty at a number of coefficients --------------------------------------------------------------------------


def dictionary(m=40, d=16):
    random = torch.Generator().manual_seed(0)
    return Dictionary(normalize(torch.randn(m, d, generator=random), dim=1), lam=1.0)


@pytest.mark.parametrize("start", [1e-3, 0.5, 40.0])
@pytest.mark.parametrize("count", [0.5, 3.0, 9.0])
def test_the_penalty_of_a_number_of_coefficients_is_found_from_anywhere(count, start):
    x = torch.randn(2000, 16, generator=torch.Generator().manual_seed(1))
    lam, slope = penalty_of_count(dictionary(), x, count, start)
    assert float(score(dictionary(), x, [Scores(lam)])["N0"]) == pytest.approx(count, rel=0.02)
    assert 0.1 <= slope <= 3


def test_more_coefficients_than_there_can_be_are_an_error_that_says_how_many_there_are():
    with pytest.raises(ShareNotReachedError, match=r"N0 is to be 60, but the codes have \d+(\.\d+)? non-zero"):
        penalty_of_count(dictionary(), torch.randn(50, 16), 60, 0.1)


def test_all_rows_have_the_number_and_not_the_sample_alone(make_data):
    data = make_data(num_samples=6000)
    data.setup("fit")
    codec = load = dictionary(32)
    for kind in data.row_sets:
        lam, values = score_at_count(codec, data, kind, 2.5)
        assert float(values["N0"]) == pytest.approx(2.5, rel=0.011)
        expected = score(load, data.rows[data.row_sets[kind]], [Scores(lam)])
        assert float(values["S1"]) == pytest.approx(float(expected["S1"]), rel=1e-5)
        assert values["atom_activity"].shape == (32,)


# --- what is said and drawn -------------------------------------------------------------------------------------------


def record(data, n0, share, **names):
    return {"data": data, "S1": 2.0, "L_norm": 3.0, "N0": n0, "explained_variance": share, "num_samples": 9, **names}


def made_up():
    values = [(8, 0.8), (8, 0.79), (8, 0.78), (8, 0.85), (8, 0.9), (5, 0.8), (4.5, 0.8), (4, 0.8)]
    beside = {"control_of": "toy", "sae": "mine"}
    return [
        record("toy", 12, 0.95),
        *(record(label, *each, **beside) for label, each in zip(ARMS, values, strict=True)),
        record("Gaussian", 30, 0.9, control_of="toy"),
    ]


def test_the_sentences_say_what_encoder_and_dictionary_cost():
    first, second, third = autoencoder_notes(made_up(), "train")
    assert first == (
        "mine at toy, training rows: with N0 8, its own encoder explains 0.800 of the variance, matching pursuit on "
        "its decoder 0.850, greedy codes on its decoder 0.790, exact codes on its decoder 0.780, greedy codes of the "
        "learnt dictionary 0.900: the encoder costs 0.050, the dictionary 0.110."
    )
    assert second == (
        "To explain 0.800, its own encoder has N0 8, greedy codes on its decoder 5, exact codes on its decoder 4.5, "
        "greedy codes of the learnt dictionary 4."
    )
    assert third.startswith("Greedy and exact codes are shrunk")
    assert list(autoencoder_notes(made_up()[:2], "train")) == []
    assert list(autoencoder_notes(made_up(), "heldout")) == []


def test_bars_of_an_autoencoder_have_a_colour_of_their_own():
    colours = [to_hex(bar.get_facecolor()) for bar in draw_bars(made_up()).axes[0].patches[:10]]
    data, *arms, control = colours
    assert len({data, control, *arms}) == 3
    assert len(set(arms)) == 1


def test_curves_of_layers_have_own_and_greedy_codes_alone():
    records = [{**one, "model": "toy", "layer": str(layer)} for layer in range(2) for one in made_up()]
    shown = draw_layers(records).axes[0].get_legend_handles_labels()[1]
    assert shown == [
        "Gaussian",
        "mine, own encoder",
        "mine, greedy, same N0",
        "mine, greedy, same expl. var.",
        "the data",
    ]

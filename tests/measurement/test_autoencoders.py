"""Autoencoders beside the data; they are of sparsify's format, which needs no other package."""

import json
import math
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from sparsecode_pl.coding import GreedyCoder, LassoCoder, MatchingPursuitCoder
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.interchange import load_autoencoder
from sparsecode_pl.measurement import MeasurementError, load_results
from sparsecode_pl.measurement.arm import Arm
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
ROLES = [
    ("own",),
    *((role, "N0") for role in ("greedy", "exact", "pursuit", "learnt")),
    *((role, "explained_variance") for role in ("greedy", "exact", "learnt")),
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
    assert all((record["arm"]["sae"], record["control_of"]) == ("mine", measured["data"]) for record in arms)
    assert (arms[0]["arm"]["role"], arms[0]["arm"]["match"]) == ("own", None)
    assert (arms[5]["arm"]["role"], arms[5]["arm"]["match"]) == ("greedy", "explained_variance")
    assert "arm" not in measured
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
    largest = pursuit.encode(data.rows[data.train_index], 1.0).to_dense().amax(dim=1).mean()
    assert others[2]["lam"] == others[2]["heldout_lam"] == pytest.approx(0.1 * float(largest), rel=1e-5)
    pursuit = load_autoencoder(mine).with_coder(MatchingPursuitCoder(round(own["heldout_N0"])))
    assert round(own["heldout_N0"]) != round(own["N0"])  # each kind of rows has as many steps as its own codes
    again = score(pursuit, data.rows[data.heldout_index], [Scores(others[2]["lam"])])
    assert others[2]["heldout_explained_variance"] == pytest.approx(float(again["explained_variance"]))
    assert others[2]["heldout_L_norm"] == pytest.approx(float(again["L_norm"]), rel=1e-5)
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
    assert [record["data"] for record in records if "arm" not in record] == [f"toy layer {n}" for n in range(2)]
    assert {record["layer"] for record in records if "arm" in record} == {"1"}
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
    with pytest.warns(
        UserWarning, match=r"same expl. var., training rows: the own codes explain -\d.*which no penalty is sought for"
    ):
        measured, own, *others = run(module(), make_data(), saes=[sae])
    assert own["explained_variance"] < 0
    assert all(record["arm"]["role"] in ("own", "pursuit") for record in (own, *others) if "S1" in record)
    # 30 of 32 atoms of width 16 are never needed, and matching pursuit alone takes as many as it is told to.
    assert [record["data"] for record in others if "S1" in record] == ["mine, pursuit, same N0"]
    assert math.isfinite(measured["S1"])
    console = Console(width=140, record=True)
    print_table([measured, own, *others], console)
    shown = " ".join(console.export_text().split())
    assert "mine, exact, same expl. var." in shown
    assert "in the lines of an autoencoder: at no penalty do the codes match its own on such rows" in shown
    assert "there are no such rows" not in shown


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


def test_without_own_codes_nothing_is_matched_and_no_number_is_divided_by(run, make_data, tmp_path):
    data = make_data()
    data.setup("fit")
    encoder = torch.nn.functional.normalize(data.rows[data.train_index[:32]], dim=1)
    sae = write(tmp_path / "mine", encoder, bias=-100.0)  # no code is above zero
    with pytest.raises(MeasurementError, match="all its codes of the training rows are zero"):
        run(module(), make_data(), saes=[sae])
    records = load_results(tmp_path / "runs" / "version_0").records
    assert [record.error is None for record in records] == [True, *[False] * 8]
    assert "the own codes of mine have no scores that others could match" in records[1 + 1].error


def test_where_own_codes_of_some_rows_are_zero_these_alone_are_left_out(run, make_data, mine, monkeypatch):
    data = make_data()
    data.setup("fit")
    heldout = {tuple(row) for row in data.rows[data.heldout_index].tolist()}

    def load(name):
        autoencoder = load_autoencoder(name)
        encode = autoencoder.encoder

        def encoder(x):
            keep = torch.tensor([tuple(row) not in heldout for row in x.tolist()])
            return encode(x) * keep[:, None]

        autoencoder.encoder = encoder
        return autoencoder

    monkeypatch.setattr("sparsecode_pl.measurement.autoencoders.load_autoencoder", load)
    with pytest.warns(UserWarning, match="held-out rows: the own codes are all zero, which leaves nothing to match"):
        _, own, *others = run(module(), data, saes=[mine])
    assert own["heldout_N0"] == 0
    assert all("S1" in record for record in others)
    assert not any("heldout_S1" in record for record in others)


def test_an_autoencoder_is_read_before_the_data_are_captured(make_data, monkeypatch):
    data = make_data()
    monkeypatch.setattr(data, "prepare_data", lambda: pytest.fail("the data are being captured"))
    with pytest.raises(FileNotFoundError, match="sae is 'nowhere'"):
        prepare(module(), data, saes=["nowhere"])


def test_an_encoder_that_has_changed_alone_is_not_resumed(run, make_data, mine, tmp_path):
    run(module(), make_data(), saes=[mine])
    features = load_file(mine / "sae.safetensors")
    save_file(features | {"encoder.bias": features["encoder.bias"] + 0.01}, mine / "sae.safetensors")
    with pytest.raises(ValueError, match=r"sae_files is .* but the run in .* was made with"):
        run(module(), make_data(), saes=[mine], resume=tmp_path / "runs" / "version_0")


# --- the penalty at a number of coefficients --------------------------------------------------------------------------


def dictionary(m=40, d=16):
    random = torch.Generator().manual_seed(0)
    return Dictionary(normalize(torch.randn(m, d, generator=random), dim=1), lam=1.0)


class Counting(GreedyCoder):
    """Greedy codes, and how many rows were coded at a time."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def encode(self, x, lam, bound):
        self.rows.append(len(x))
        return super().encode(x, lam, bound)


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


def test_what_cannot_be_reached_is_seen_on_few_rows():
    coder = Counting()
    codec = Dictionary(dictionary().atoms, lam=1.0, coder=coder)
    with pytest.raises(ShareNotReachedError, match="N0 is to be 39, but"):
        penalty_of_count(codec, torch.randn(2048, 16, generator=torch.Generator().manual_seed(1)), 39, 1.0)
    assert 3 < len(coder.rows) < 30
    assert set(coder.rows) == {256}


def test_a_number_that_no_longer_grows_is_given_up():
    x = torch.randn(2048, 16, generator=torch.Generator().manual_seed(1))
    x[::8] *= 0.5
    x[1:64] = 0  # these have no code, and are not among the few rows
    coder = Counting()
    codec = Dictionary(torch.eye(16), lam=1.0, coder=coder)
    most = float(score(codec, x, [Scores(1e-9)])["N0"])
    few = float(score(codec, x[::8], [Scores(1e-9)])["N0"])
    assert 0.9 * most < most < few
    with pytest.raises(ShareNotReachedError, match="N0 is to be"):
        penalty_of_count(codec, x, (most + few) / 2, 1.0)
    assert sum(rows == 2048 for rows in coder.rows) < 25


@pytest.mark.parametrize("count", [0.0, math.nan])
def test_no_coefficients_are_sought_at_no_penalty(count):
    with pytest.raises(ShareNotReachedError, match="which no penalty is sought for"):
        penalty_of_count(dictionary(), torch.randn(50, 16), count, 0.1)


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
    arms = [{"arm": Arm("", "mine", *each).plain(), "control_of": "toy"} for each in ROLES]
    return [
        record("toy", 12, 0.95),
        *(record(label, *each, **beside) for label, each, beside in zip(ARMS, values, arms, strict=True)),
        record("Gaussian", 30, 0.9, control_of="toy"),
    ]


def test_the_sentences_say_what_encoder_and_dictionary_cost():
    first, second, third = autoencoder_notes(made_up(), "train")
    assert first == (
        "mine at toy, training rows: with N0 8, its own encoder explains 0.800 of the variance, matching pursuit on "
        "its decoder 0.850 (N0 8), greedy codes on its decoder 0.790 (N0 8), exact codes on its decoder 0.780 (N0 8), "
        "greedy codes of the learnt dictionary 0.900 (N0 8): the encoder costs 0.050, the dictionary 0.110."
    )
    assert second == (
        "To explain 0.800, its own encoder has N0 8, greedy codes on its decoder 5, exact codes on its decoder 4.5, "
        "greedy codes of the learnt dictionary 4."
    )
    assert third.startswith("Greedy and exact codes are shrunk")
    assert list(autoencoder_notes(made_up()[:2], "train")) == []
    assert list(autoencoder_notes(made_up(), "heldout")) == []


def test_the_sentences_are_of_their_layer_also_where_that_failed():
    other = [{**one, **({"control_of": "other"} if "control_of" in one else {"data": "other"})} for one in made_up()]
    failed = {"data": "other", "error": "no room"}
    for records in ([*made_up(), failed, *other[1:]], [*made_up(), *other[1:]]):
        first, _, second, _, _ = autoencoder_notes(records, "train")
        assert first.startswith("mine at toy, ")
        assert second.startswith("mine at other, ")


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


def test_autoencoders_of_one_layer_each_share_their_curves():
    records = [
        {**one, "model": "toy", "layer": str(layer)}
        | ({"arm": one["arm"] | {"sae": f"l{layer}"}} if "arm" in one else {})
        for layer in range(3)
        for one in made_up()
    ]
    axes = draw_layers(records).axes[0]
    handles, shown = axes.get_legend_handles_labels()
    assert shown == [
        "Gaussian",
        "autoencoder, own encoder",
        "autoencoder, greedy, same N0",
        "autoencoder, greedy, same expl. var.",
        "the data",
    ]
    assert all(len(handle.get_ydata()) == 3 and np.isfinite(handle.get_ydata()).all() for handle in handles)

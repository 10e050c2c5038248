"""A measurement of text: three kinds of rows, their intervals, and what is told of the tokens."""

import warnings
from functools import partial
from io import StringIO

import pytest
import torch
from rich.console import Console
from sparsecode_control import RepeatedGaussian

from sparsecode_pl.measurement import fit, load_results, measure
from sparsecode_pl.measurement.report import print_table, report
from sparsecode_pl.measurement.trainer import default_trainer
from sparsecode_pl.module import SparseCodingModule

TRAINER = partial(default_trainer, accelerator="cpu", devices=1, max_epochs=2, enable_progress_bar=False)
SCORES = ["S1", "L_norm", "N0", "L", "explained_variance"]
KINDS = {"train": "", "heldout": "heldout_", "unseen": "unseen_"}


@pytest.fixture(scope="module")
def measured(words, tmp_path_factory):
    """The run folder, the records of small text and of its repeated Gaussian, and the text."""
    folder, data = tmp_path_factory.mktemp("text"), words()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        records = measure(
            SparseCodingModule(8, num_atoms=24, lam=0.3), data, [RepeatedGaussian()], folder=folder, trainer=TRAINER
        )
    return folder / "version_0", records, data


def test_every_kind_of_rows_has_all_scores_with_intervals_around_them(measured):
    _, records, data = measured
    assert list(data.row_sets) == list(KINDS)
    for record in records:
        for prefix in (prefix for prefix in KINDS.values() if f"{prefix}S1" in record):
            for name in SCORES:
                low, high = record["intervals"][prefix + name]
                assert low < record[prefix + name] < high, prefix + name
    counts = [records[0][f"{prefix}num_samples"] for prefix in KINDS.values()]
    assert counts == [len(index) for index in data.row_sets.values()]


def test_the_scores_are_those_of_the_rows_of_that_kind(measured):
    _, (record, _), data = measured
    for kind, prefix in KINDS.items():
        codes = record.dictionary.encode(data.rows[data.row_sets[kind]]).to_dense().double().detach()
        assert record[f"{prefix}S1"] == pytest.approx(float(codes.sum() / codes.max(1).values.sum()), rel=1e-5)
        assert record[f"{prefix}N0"] == pytest.approx(float((codes > 0).sum(1).double().mean()), rel=1e-6)


def test_the_record_tells_of_rows_and_tokens(measured):
    _, (record, control), data = measured
    tokens, train = data.source.columns["token_id"], data.train_index
    assert record["num_distinct"] == len(data.rows.unique(dim=0))
    assert record["num_types"] == len(tokens.unique())
    assert record["num_copies"] == len(data.rows) - sum(map(len, data.row_sets.values())) > 0
    held = torch.isin(data.source.columns["document"], data.source.columns["document"][data.heldout_index])
    seen = torch.isin(tokens[held], tokens[train]).double().mean()
    assert record["heldout_seen_share"] == pytest.approx(float(seen), abs=0.05)
    for prefix in ("", "heldout_"):
        assert 0 < record[f"{prefix}token_explained_variance"] < 1
    assert "unseen_token_explained_variance" not in record
    # Of the control, one vector for each token, the token tells everything.
    assert control["num_distinct"] == control["num_types"] == record["num_types"]
    assert control["token_explained_variance"] == pytest.approx(1)


def test_a_control_has_a_ratio_of_each_kind_of_rows_that_it_has(measured):
    _, (record, control), _ = measured
    # All held-out rows of trained types are copies in the control, and so it has none of this kind.
    assert [kind for kind, prefix in KINDS.items() if f"{prefix}S1" in control] == ["train", "unseen"]
    for prefix in ("", "unseen_"):
        name = f"{prefix}S1_ratio"
        assert control[name] == record[f"{prefix}S1"] / control[f"{prefix}S1"]
        low, high = control["intervals"][name]
        assert low < control[name] < high
    assert "heldout_S1_ratio" not in control


def test_they_are_read_back_and_the_report_is_made_again(measured, monkeypatch, capsys):
    folder, records, _ = measured
    loaded = load_results(folder).records
    assert [repr(record) for record in loaded] == [repr(record) for record in records]
    names = ("results.json", "results.csv", "sparsity.png")
    before = {name: (folder / name).read_bytes() for name in names}
    for name in names[1:]:
        (folder / name).unlink()
    report(folder)
    assert {name: (folder / name).read_bytes() for name in names} == before
    console = Console(file=StringIO(), width=140)
    print_table(records, console)
    shown = capsys.readouterr().out
    for line in console.file.getvalue().splitlines():
        assert line.strip() in shown


def test_without_unseen_tokens_there_are_two_kinds(words, run):
    (record,) = run(SparseCodingModule(8, num_atoms=24, lam=0.3), words(unseen_split=0))
    assert "heldout_S1" in record
    assert not [name for name in record if name.startswith("unseen")]


def test_exact_codes_are_scored_for_unseen_tokens_too(words, run):
    (record,) = run(SparseCodingModule(8, num_atoms=24, lam=0.3), words(), exact=True, explained_variance=0.6)
    for prefix in KINDS.values():
        assert record[f"{prefix}explained_variance"] >= 0.6
        assert record[f"{prefix}exact_L"] <= record[f"{prefix}L"]
        low, high = record["intervals"][f"{prefix}exact_S1"]
        assert low < record[f"{prefix}exact_S1"] < high


def test_a_share_that_unseen_tokens_miss_with_one_seed_is_left_out_of_the_means(words, run, monkeypatch):
    score, seeds = fit.score_at_shares, []

    def missed(dictionary, data, kind, shares, known):
        found = score(dictionary, data, kind, shares, known)
        if kind == "unseen":
            seeds.append(dictionary)
            if len(seeds) == 2:
                del found.values[shares[0]]
                found.missed[shares[0]] = "unseen tokens reach only 0.5"
        return found

    monkeypatch.setattr(fit, "score_at_shares", missed)
    module, data = SparseCodingModule(8, num_atoms=24, lam=0.3), words(batches_per_round=2)
    with pytest.warns(UserWarning, match="unseen tokens reach only"):
        (record,) = run(module, data, seeds=2, explained_variance=[0.6, 0.5])
    each = [one.scores for one in record.fits]
    assert ["unseen_S1" in scores for scores in each] == [True, False]
    assert record["heldout_S1"] == pytest.approx(sum(scores["heldout_S1"] for scores in each) / 2)
    at = {level["share"]: level for level in record["frontier"]}
    for entries in (record, at[0.6], record["spread"], record["intervals"]):
        assert "heldout_S1" in entries
        assert not [name for name in entries if name in ("unseen_S1", "unseen_lam")]
    assert "unseen_S1" in at[0.5]["spread"]
    assert load_results(record.folder.parents[1]).records[0]["S1"] == record["S1"]

import json
import re
import shutil
import sys

import pytest
import torch

from sparsecode_pl import Dictionary, load_results
from sparsecode_pl.cli import main
from sparsecode_pl.cli.run_again import find_run


@pytest.fixture(scope="module")
def text_run(tmp_path_factory, text_words):
    """The folder of a measurement of text beside a control, with two initial dictionaries; not to be changed."""
    folder = tmp_path_factory.mktemp("text_run")
    words = ["--controls+=MatchedGaussian", "--model.lam=0.3", "--model.expansion=2", "--jobs=1", "--seeds=2"]
    main(["measure", *text_words, *words, f"--output={folder}"])
    return folder / "version_0"


@pytest.fixture
def stored(text_run):
    """The dictionary of its data."""
    return next(text_run.glob("0-*")) / "seed_0" / "dictionary"


def _atoms(page):
    return sorted(page.glob("atoms/*.html"))


def test_a_run_gets_pages_of_its_data_and_of_its_control(measured, here, caplog):
    main(["features", str(measured), "--output=pages", "--examples=3"])
    pages = here / "pages"
    assert json.loads((pages / "features.json").read_text())["subjects"] == ["SparseLinear a=1.5", "MatchedGaussian"]
    assert len(_atoms(pages)) == len(_atoms(pages / "01-matchedgaussian")) == 32
    assert (pages / "picture.svg").read_text().startswith("<?xml")
    batch = json.loads((pages / "neuronpedia" / "0" / "batch-000.json").read_text())
    assert len(batch["features"]) == 32
    assert list((pages / "projector").rglob("tensors.tsv"))
    assert "its rows are of no text" in caplog.text
    assert str(pages / "index.html") in caplog.text


def test_examples_are_held_out_unless_all_rows_are_asked_for(text_run, here):
    main(["features", str(text_run), "--output=held", "--controls=false"])
    main(["features", str(text_run), "--output=all", "--controls=false", "--rows=all"])
    held, everything = ((here / name / "atoms" / "0003.html").read_text() for name in ("held", "all"))
    mark = "trained on this row"
    assert mark in everything
    assert mark not in held
    assert "#3" in everything
    assert "stability" in everything  # of the two initial dictionaries


def test_the_pages_of_a_run_are_in_its_folder_unless_another_is_given(measured, tmp_path):
    run = shutil.copytree(measured, tmp_path / "runs" / "version_3")
    main(["features", str(tmp_path / "runs"), "--controls=false"])
    assert (run / "features" / "index.html").is_file()
    main(["features", str(run), "--controls=[MatchedGaussian]"])  # takes the place of the first pages
    assert (run / "features" / "01-matchedgaussian" / "index.html").is_file()


def test_the_newest_of_several_runs_is_taken(tmp_path):
    for number in (2, 10):
        (tmp_path / f"version_{number}").mkdir()
        (tmp_path / f"version_{number}" / "results.json").touch()
    assert find_run(tmp_path).name == "version_10"
    assert find_run(tmp_path / "version_2").name == "version_2"
    assert find_run(tmp_path / "nothing") is None


def test_a_dictionary_needs_its_data_where_its_card_does_not_tell_them(stored, text_words, here, refused):
    data = [word for word in text_words if word.startswith("--data")]
    assert "give the data by --data" in refused("features", str(stored))
    main(["features", str(stored), *data, "--output=pages"])
    assert len(_atoms(here / "pages")) == 16


def test_the_table_of_a_token_is_printed_and_written(stored, text_words, here, capsys):
    data = [word for word in text_words if word.startswith("--data")]
    main(["features", str(stored), *data, "--token=#7", "--top=2", "--examples=4", "--output=tables"])
    printed = capsys.readouterr().out
    assert "Features of '#7'" in printed
    assert "nearest neighbours" in printed
    (table,) = json.loads((here / "tables" / "tokens.json").read_text())["tables"]
    assert (table["token"], table["num_rows"]) == ("#7", 16)
    assert len(table["features"]) <= 2
    assert len(table["neighbours"]) == 4
    assert "#7" in (here / "tables" / "tokens.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer=9"], "layer is '9', and the run in .* has mlp"),
        (
            ["--layer=mlp", "--controls=[Shuffled]"],
            "controls has 'Shuffled', and the controls of the run in .* are MatchedGaussian",
        ),
        (["--examples=0"], "examples is 0: give at least 1"),
        (["--token=season"], "token is 'season', and no row of .* is of it"),
        (["--rows=some"], "rows"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(text_run, refused, words, message):
    assert re.search(message, refused("features", str(text_run), "--output=pages", *words))


def test_a_folder_of_other_files_is_not_written_to(text_run, here, refused):
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("precious")
    assert "holds other files: give an empty folder" in refused("features", str(text_run), "--output=mine")
    assert [path.name for path in (here / "mine").iterdir()] == ["thesis.txt"]


def test_a_dictionary_of_another_width_or_layer_is_refused(here, text_words, stored, refused):
    data = [word for word in text_words if word.startswith("--data")]
    Dictionary(torch.eye(5), lam=1.0).save_pretrained(here / "narrow")
    assert "width 5" in refused("features", "narrow", *data)
    other = Dictionary.from_pretrained(stored)
    object.__setattr__(other.card, "layer", "attention")
    other.save_pretrained(here / "attention")
    said = refused("features", "attention", *data)
    assert "the dictionary is of tiny layer attention, but the data is tiny layer mlp" in said


def _changed(run, tmp_path, change):
    """A copy of a run whose settings were changed."""
    copy = shutil.copytree(run, tmp_path / "run")
    content = json.loads((copy / "results.json").read_text())
    change(content["settings"])
    (copy / "results.json").write_text(json.dumps(content))
    return str(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda settings: settings["controls"].append({"class_path": "made_up.X"}), "'made_up.X' names no installed"),
        (lambda settings: settings["controls"].append("made_up.X"), "no settings of plugins"),
        (lambda settings: settings.update(data="made_up.X"), "its settings do not tell its data"),
        (lambda settings: settings.pop("data"), "its settings do not tell its data"),
        (
            lambda settings: settings["controls"].append(
                {"class_path": "ControlOf", "init_args": {"control": {"class_path": "made_up.X"}, "data": "made_up.Y"}}
            ),
            "'made_up.X' names no installed",
        ),
    ],
)
def test_nothing_is_imported_because_a_run_names_it(text_run, tmp_path, refused, monkeypatch, change, message):
    (tmp_path / "made_up.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert message in refused("features", _changed(text_run, tmp_path, change), "--output=pages")
    assert "made_up" not in sys.modules


def test_data_of_another_run_are_refused(text_run, text_words, refused):
    data = [word for word in text_words if word.startswith("--data")]
    assert "val_split is 0.5, but the run in" in refused("features", str(text_run), *data, "--data.val_split=0.5")


def test_a_control_of_the_same_name_has_pages_of_its_own(here, quiet):
    rows = ["--data.d_model=8", "--data.num_samples=300", "--data.batches_per_round=2", "--trainer.max_epochs=1"]
    control = ["--controls+=Gaussian", "--controls.seed=5", "--model.lam=0.5", "--model.expansion=1", "--jobs=1"]
    main(["measure", "--data=Gaussian", *rows, *control, *quiet, "--output=runs"])
    main(["features", "runs"])
    names = json.loads((here / "runs" / "version_0" / "features" / "features.json").read_text())["subjects"]
    assert names == ["Gaussian", "Gaussian, control Gaussian"]


def test_at_a_share_of_the_variance_rows_are_coded_at_their_own_penalty(here, text_words):
    share = ["--model.lam=0.3", "--model.expansion=2", "--jobs=1", "--explained_variance=0.5"]
    main(["measure", *text_words, *share, "--output=runs"])
    main(["features", "runs", "--output=pages"])
    (record,) = load_results(here / "runs" / "version_0").records
    assert record["heldout_lam"] != record["lam"]
    page = (here / "pages" / "index.html").read_text()
    assert f"{record['heldout_lam']:.4g} of held-out rows" in page
    (shown,) = re.findall(r"<dt>penalty</dt><dd>([\d.]+)</dd>", page)
    assert float(shown) == pytest.approx(record["heldout_lam"], rel=2e-3)
    assert float(shown) != pytest.approx(record["lam"], rel=2e-3)

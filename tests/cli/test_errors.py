import pytest
import yaml

from sparsecode_pl.data import available_plugins

UNKNOWN = [
    ("SparsLinear", "SparseLinear"),
    ("sparselinear", "SparseLinear"),
    ("Gausian", "Gaussian"),
    ("TokenEmbedding", "TokenEmbeddings"),
]


@pytest.mark.parametrize(("name", "nearest"), UNKNOWN)
def test_an_unknown_plugin_is_refused_with_the_nearest(refused, name, nearest):
    message = refused("fit", f"--data={name}")
    assert f"no plugin is called '{name}': did you mean {nearest}?" in message
    assert all(plugin in message for plugin in available_plugins())


def test_an_unknown_control_is_refused_with_the_nearest(refused, small):
    message = refused("measure", *small, "--controls+=MatchedGausian")
    assert "no plugin is called 'MatchedGausian': did you mean MatchedGaussian?" in message


@pytest.mark.parametrize("place", ["data", "controls"])
def test_an_unknown_plugin_in_a_configuration_is_refused_with_the_nearest(refused, here, place):
    config = {"data": {"class_path": "SparseLinear"}, "controls": [{"class_path": "Gaussian"}]}
    config[place] = {"class_path": "Shufled"} if place == "data" else [{"class_path": "Shufled"}]
    (here / "config.yaml").write_text(yaml.safe_dump(config))
    assert "no plugin is called 'Shufled': did you mean Shuffled?" in refused("measure", "--config=config.yaml")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--model.lamda=1"], ["model.lamda"]),
        (["--data.activ=3"], ["activ"]),
        (["--bogus=1"], ["--bogus=1"]),
        (["--data.active=many"], ["active", "many", "a number"]),
        (["--model.lam=0"], ["lam is 0.0: give a finite penalty above 0"]),
        (["--model.lam=-1"], ["lam is -1.0: give a finite penalty above 0"]),
        (["--model.lam=abc"], ["model.lam", "abc", "a number or null"]),
        (["--model.lam=.nan"], ["lam is nan: give a finite penalty above 0"]),
        (["--model.eval_lam=0"], ["eval_lam is 0.0: give a finite penalty above 0"]),
        (["--model.expansion=0.5"], ["expansion is 0.5: give at least 1 atom per dimension"]),
        (["--model.init=zeros"], ["init", "zeros", "data", "random"]),
        (["--adaptive_penalty.ratio=3"], ["ratio is 3.0: give a number in (0, 2)"]),
        (["--data.num_samples=1"], ["num_samples is 1: give at least 2"]),
        (["--data.val_split=1"], ["val_split is 1.0: give a share in [0, 1)"]),
        (["--data.batch_size=0"], ["batch_size is 0: give an integer of at least 1"]),
        (["--data.active=99"], ["active is 99.0: give a number above 0 and at most num_features, 32"]),
    ],
    ids=lambda value: value[0].removeprefix("--") if str(value[0]).startswith("--") else "",
)
def test_a_bad_option_is_refused(refused, options, parts, small, quiet):
    message = refused("fit", *small, *quiet, *options)
    for part in parts:
        assert part in message


def test_a_model_that_is_not_there_is_refused(refused, here):
    message = refused("fit", "--data=TokenEmbeddings", f"--data.model_name_or_path={here}/nowhere")
    assert f"model_name_or_path is '{here}/nowhere', and there is no such folder: give" in message


def test_a_folder_that_is_no_model_is_refused(refused, here):
    (here / "empty").mkdir()
    message = refused("measure", "--data=TokenEmbeddings", f"--data.model_name_or_path={here}/empty")
    assert f"model_name_or_path is '{here}/empty'" in message
    assert "give" in message


@pytest.mark.parametrize(
    ("command", "option"),
    [("measure", "--output=file/out"), ("fit", "--trainer.default_root_dir=file/out")],
    ids=["measure", "fit"],
)
def test_an_output_folder_that_cannot_be_written_is_refused(refused, here, command, option, small):
    (here / "file").touch()
    message = refused(command, *small, option)
    assert "output folder file/out cannot be written" in message
    assert "give another folder" in message


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_missing_checkpoint_is_refused(refused, command, small, quiet):
    assert "ckpt_path is missing: give the checkpoint of a fit" in refused(command, *small, *quiet)


@pytest.mark.parametrize("command", ["fit", "predict"])
def test_a_checkpoint_that_is_not_there_is_refused(refused, command, small, quiet):
    message = refused(command, *small, *quiet, "--ckpt_path=nowhere.ckpt")
    assert "ckpt_path" in message
    assert "nowhere.ckpt" in message


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_rows_that_are_not_finite_are_refused_with_their_place(refused, here, monkeypatch, value):
    (here / f"rows_with_{value}.py").write_text(
        f"""
import torch
from sparsecode_pl.data import ActivationDataModule

class Broken(ActivationDataModule):
    def load(self):
        rows = torch.randn(50, 8)
        rows[[7, 9], 3] = float("{value}")
        return rows
"""
    )
    monkeypatch.syspath_prepend(here)
    message = refused("measure", f"--data=rows_with_{value}.Broken")
    assert "Broken: 2 of 400 activations are NaN or infinite, in 2 of 50 rows (first: row 7, dimension 3)" in message
    assert "Drop these rows" in message


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--seeds=0"], ["seeds is 0: give at least 1"]),
        (["--jobs=0"], ["jobs is 0: give at least 1"]),
        (["--explained_variance=98"], ["explained_variance is 98.0: give a share in (0, 1), such as 0.98"]),
        (["--explained_variance=[0.9,0.8,0.9]"], ["explained_variance is [0.9, 0.8, 0.9]: give each share once"]),
        (["--explained_variance=[0.9,98]"], ["explained_variance is 98.0: give a share in (0, 1), such as 0.98"]),
        (["--data.heldout_by=speaker"], ["heldout_by is 'speaker', but the columns of the rows are none at all"]),
        (["--truth", "--also+=Gaussian", "--also.d_model=16"], ["truth is true, but Gaussian has no known answer"]),
        (["--exact", "--evaluations+=ExactCodes"], ["evaluation ExactCodes gives coding_gap"]),
        (["--controls+=Gaussian", "--controls.d_model=8"], ["d_model is 8, but SparseLinear a=1.5 has width 16"]),
    ],
    ids=["seeds", "jobs", "share", "a share twice", "one of several shares", "column", "truth", "twice", "width"],
)
def test_a_bad_measurement_is_refused(refused, options, parts, measure_words):
    message = refused(*measure_words, *options)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--data.heldout_by=documents"],
            "heldout_by is 'documents', but the columns of the rows are token_id",
        ),
        (["--data.unseen_by=token"], "unseen_by is 'token', but the columns of the rows are token_id, document: give"),
        (["--data.unseen_split=1"], "unseen_split is 1.0: give a share in [0, 1), 0 to keep all tokens in training"),
    ],
    ids=["heldout_by", "unseen_by", "unseen_split"],
)
def test_a_split_that_there_cannot_be_is_refused(refused, options, message, text_words):
    assert message in refused("measure", *text_words, *options)


def test_a_column_that_no_layer_has_is_refused(refused, store, quiet):
    message = refused("measure", "--data=ActivationStore", f"--data.path={store}", *quiet, "--data.heldout_by=tokens")
    assert "heldout_by is 'tokens', but the columns of the rows are token, position: give one of them" in message


@pytest.mark.parametrize("command", ["fit", "predict"])
def test_several_layers_are_refused_where_one_dictionary_is_meant(refused, store, quiet, checkpoint, command):
    words = [] if command == "fit" else [f"--ckpt_path={checkpoint}"]
    message = refused(command, "--data=ActivationStore", f"--data.path={store}", *quiet, *words)
    assert "data are 2 layers (tiny layer 0, tiny layer model.mlp)" in message
    assert "`sparsecode measure`" in message


@pytest.mark.parametrize("command", ["measure", "fit", "predict", "cache"])
def test_without_data_those_that_there_are_are_listed(refused, command):
    message = refused(command)
    assert "data is missing: give --data NAME, one of ActivationStore" in message
    assert "SparseLinear" in message

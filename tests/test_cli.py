import json
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from sparsecode_synthetic import SparseLinear
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparsecode_pl.cli import main
from sparsecode_pl.cli.lightning import SparseCodingCLI
from sparsecode_pl.coding import load_codes
from sparsecode_pl.data import available_plugins
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.module import SparseCodingModule

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:lam has not settled"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]

CONFIGS = Path(__file__, "../../configs").resolve()
COMMANDS = ["fit", "validate", "test", "predict", "measure"]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
ROWS = ["--data=SparseLinear", "--data.d_model=16", "--data.num_features=32", "--data.active=1.5"]
SMALL = [*ROWS, "--data.num_samples=500"]
ROUND = ["--data.batch_size=128", "--data.batches_per_round=6"]
FIT = ["fit", *SMALL, *ROUND, "--trainer.max_epochs=2", *QUIET]
MEASURE = ["measure", *SMALL, *ROUND, "--trainer.max_epochs=2", *QUIET]


def small_data():
    """The data of the command lines above."""
    return SparseLinear(d_model=16, num_features=32, active=1.5, num_samples=500)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, and a process whose own command line is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sparsecode"])
    return tmp_path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The folder of a run of `sparsecode fit`."""
    folder = tmp_path_factory.mktemp("fit")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["sparsecode"])
        main([*FIT, "--model.expansion=3", "--model.scale=true"])
    return folder / "lightning_logs" / "version_0"


@pytest.fixture(scope="module")
def checkpoint(fitted):
    """The checkpoint of that run."""
    (path,) = (fitted / "checkpoints").glob("*.ckpt")
    return str(path)


def final_scores(folder):
    """The last of each score in the event file of a run."""
    events = EventAccumulator(str(folder)).Reload()
    return {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}


# --- what the commands do --------------------------------------------------------------------------------------------


def test_fit_leaves_curves_a_checkpoint_a_dictionary_and_its_configuration(fitted, checkpoint):
    names = {path.name for path in fitted.iterdir()}
    assert names >= {"checkpoints", "config.yaml", "dictionary"}
    assert len([name for name in names if name.startswith("events.out.tfevents")]) == 1
    module = SparseCodingModule.load_from_checkpoint(checkpoint)
    assert module.dictionary.shape == (48, 16)
    assert torch.equal(Dictionary.from_pretrained(fitted / "dictionary").atoms, module.dictionary.atoms)
    scores = final_scores(fitted)
    codes = module(small_data().rows[small_data().train_index]).to_dense()
    assert scores["train/N0"] == pytest.approx(float((codes > 0).sum(1).double().mean()), rel=1e-5)
    assert scores["lam"] == pytest.approx(float(module.lam), rel=1e-5)


def test_fit_again_from_the_configuration_that_was_saved_gives_the_same_dictionary(fitted, here):
    main(["fit", "--config", str(fitted / "config.yaml")])
    again = Dictionary.from_pretrained(here / "lightning_logs" / "version_0" / "dictionary")
    assert torch.equal(again.atoms, Dictionary.from_pretrained(fitted / "dictionary").atoms)


def test_fit_goes_on_from_a_checkpoint(checkpoint, here):
    main([*FIT, "--trainer.max_epochs=3", f"--ckpt_path={checkpoint}"])
    assert [path.name for path in here.rglob("*.ckpt")] == ["epoch=2-step=18.ckpt"]


@pytest.mark.parametrize("command", ["validate", "test"])
def test_scoring_a_checkpoint_needs_no_argument_of_the_model(fitted, checkpoint, here, capsys, command):
    main([command, *SMALL, *QUIET, f"--ckpt_path={checkpoint}"])
    shown = capsys.readouterr().out
    expected = final_scores(fitted)
    for tag in ("train/S1", "heldout/S1", "train/L_norm", "heldout/N0"):
        value = re.search(rf"{tag}\W+([\d.]+)", shown)[1]
        assert float(value) == pytest.approx(expected[tag], rel=1e-5), tag


def test_predict_writes_the_codes_of_all_rows(checkpoint, here):
    main(["predict", *SMALL, *QUIET, f"--ckpt_path={checkpoint}"])
    codes = load_codes(here / "lightning_logs" / "version_0" / "codes")
    expected = SparseCodingModule.load_from_checkpoint(checkpoint)(small_data().rows)
    assert codes.shape == (500, 48)
    assert torch.equal(codes.col_indices(), expected.col_indices())
    torch.testing.assert_close(codes.values(), expected.values())


def test_predict_takes_the_penalty_that_it_is_given(checkpoint, here):
    main(["predict", *SMALL, *QUIET, f"--ckpt_path={checkpoint}", "--model.eval_lam=0.5"])
    codes = load_codes(here / "lightning_logs" / "version_0" / "codes")
    dictionary = SparseCodingModule.load_from_checkpoint(checkpoint).dictionary
    expected = dictionary.encode(small_data().rows, 0.5)
    assert torch.equal(codes.col_indices(), expected.col_indices())


def test_predict_takes_the_coder_of_the_fit(here):
    main([*FIT, "--model.coder=GreedyCoder", "--model.coder.max_atoms=1", "--model.lam=0.1"])
    (path,) = here.rglob("*.ckpt")
    main(["predict", *SMALL, *QUIET, f"--ckpt_path={path}"])
    codes = load_codes(here / "lightning_logs" / "version_1" / "codes")
    assert codes.crow_indices().diff().max() == 1


def test_measure_holds_data_against_controls_by_their_short_names(here, capsys):
    controls = ["--controls+=MatchedGaussian", "--controls+=Gaussian", "--controls.stream=true"]
    main([*MEASURE, *controls, "--model.expansion=2", "--output=out", "--data.val_split=0.2"])
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


def test_measure_is_the_fit_of_the_same_arguments(fitted, here):
    main([*MEASURE, "--model.expansion=3", "--model.scale=true", "--output=out"])
    (record,) = json.loads((here / "out" / "version_0" / "results.json").read_text())["results"]
    expected = final_scores(fitted)
    for rows, prefix in (("train", ""), ("heldout", "heldout_")):
        for score in ("S1", "L_norm", "N0", "L", "explained_variance"):
            assert record[f"{prefix}{score}"] == pytest.approx(expected[f"{rows}/{score}"], rel=1e-5)


def test_measure_takes_seeds(here):
    main([*MEASURE, "--seeds=2", "--model.lam=0.1", "--data.batches_per_round=1", "--output=out"])
    (record,) = json.loads((here / "out" / "version_0" / "results.json").read_text())["results"]
    assert record["spread"]["S1"] > 0


def test_measure_takes_further_data_a_share_and_jobs(here, capsys):
    also = ["--also+=Gaussian", "--also.d_model=16", "--also.num_samples=400", "--also.batches_per_round=3"]
    options = ["--controls+=RandomDictionary", "--explained_variance=0.9", "--jobs=2", "--output=out"]
    main([*MEASURE, *also, *options, "--model.expansion=4"])
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
    assert (settings["explained_variance"], settings["jobs"]) == (0.9, 2)
    assert settings["also"][0]["init_args"]["num_samples"] == 400
    assert "How sparse are SparseLinear a=1.5, Gaussian?" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("words", "exact"), [(["--exact"], True), (["--exact=false"], False), ([], False)])
def test_measure_takes_exact_as_a_flag(here, capsys, words, exact):
    main([*MEASURE, *words, "--model.lam=0.1", "--data.batches_per_round=1", "--output=out"])
    whole = json.loads((here / "out" / "version_0" / "results.json").read_text())
    assert whole["settings"]["exact"] is exact
    assert ("heldout_coding_gap" in whole["results"][0]) is exact
    assert ("exact codes" in capsys.readouterr().out) is exact


def test_without_learning_the_atoms_are_the_first_ones(here):
    main([*FIT, "--model.learn=false", "--model.init=random", "--model.seed=3"])
    saved = Dictionary.from_pretrained(here / "lightning_logs" / "version_0" / "dictionary")
    assert torch.equal(saved.atoms, SparseCodingModule(16, seed=3).dictionary.atoms)
    (path,) = here.rglob("*.ckpt")
    assert SparseCodingModule.load_from_checkpoint(path).learn is False


def test_in_measure_one_fit_leaves_no_trace_in_the_callbacks_of_the_next(here):
    stopping = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=train/L"]
    never_enough = ["--trainer.callbacks.min_delta=1e6", "--trainer.callbacks.patience=1"]
    options = ["--controls+=Gaussian", "--model.lam=0.1", "--output=out", "--trainer.max_epochs=5"]
    main([*MEASURE, *stopping, *never_enough, *options])
    results = json.loads((here / "out" / "version_0" / "results.json").read_text())["results"]
    assert [record["rounds"] for record in results] == [2, 2]


def test_model_parts_can_be_chosen(here, monkeypatch):
    modules = []
    monkeypatch.setattr(SparseCodingModule, "on_fit_end", lambda module: modules.append(module), raising=False)
    optimizer = ["--model.optimizer=SGD", "--model.optimizer.lr=0.5"]
    scheduler = ["--model.lr_scheduler=ExponentialLR", "--model.lr_scheduler.gamma=0.5"]
    main([*FIT, *optimizer, *scheduler, "--model.coder=GreedyCoder", "--model.coder.max_atoms=2", "--model.lam=0.1"])
    (module,) = modules
    (used,) = module.trainer.optimizers
    assert type(used) is torch.optim.SGD
    assert used.param_groups[0]["lr"] == 0.5 * 0.5**6
    assert module(small_data().rows).crow_indices().diff().max() == 2


def test_a_fast_dev_run_writes_nothing(here):
    main([*FIT, "--trainer.fast_dev_run=true"])
    assert not list(here.rglob("*.ckpt"))
    assert not list(here.rglob("events*"))


def test_a_progress_bar_is_no_hindrance(here, capsys):
    main([*FIT, "--trainer.enable_progress_bar=true", "--trainer.max_epochs=1"])
    assert (here / "lightning_logs" / "version_0" / "dictionary").is_dir()


@pytest.mark.filterwarnings("ignore:.*lam is too large")
def test_codes_that_are_all_zero_are_no_crash(here):
    main([*FIT, "--model.lam=1000"])
    assert final_scores(here / "lightning_logs" / "version_0")["train/N0"] == 0


def test_plugins_lists_what_is_installed_with_a_line_each(here, capsys):
    main(["plugins"])
    shown = capsys.readouterr().out
    assert len(available_plugins()) >= 7
    for name, entry in available_plugins().items():
        assert re.search(rf"{name}\W+\w+", shown)
        assert entry.module.partition(".")[0][:20] in shown


# --- configurations --------------------------------------------------------------------------------------------------


class Parsed(Exception):  # noqa: N818
    """Raised where a command line has been read, instead of making anything of it."""


@pytest.fixture
def parse(monkeypatch, here):
    """Reads a command line, and returns its settings."""

    def stop(cli):
        raise Parsed(cli.config[cli.subcommand])

    monkeypatch.setattr(SparseCodingCLI, "instantiate_classes", stop)

    def parse(*words):
        with pytest.raises(Parsed) as parsed:
            main(list(words))
        return parsed.value.args[0]

    return parse


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_a_shipped_configuration_is_read(path, parse):
    written = yaml.safe_load(path.read_text())
    read = parse("measure", "--config", str(path))
    assert read["data"]["class_path"].split(".")[-1] == written["data"]["class_path"]
    assert read["data"]["init_args"].as_dict().items() >= written["data"]["init_args"].items()
    controls = [control["class_path"].split(".")[-1] for control in read["controls"] or []]
    assert controls == [control["class_path"] for control in written.get("controls", [])]
    assert read["output"] == written.get("output", "lightning_logs/measure")


def test_there_are_configurations():
    assert len(list(CONFIGS.rglob("*.yaml"))) >= 6


def test_the_command_line_goes_before_the_configuration(parse):
    path = CONFIGS / "paper" / "synthetic_a5.yaml"
    read = parse("fit", "--config", str(write_fit_config(path)), "--data.active=7", "--model.num_atoms=9")
    assert read["data"]["init_args"]["active"] == 7
    assert read["data"]["init_args"]["num_samples"] == 20480
    assert read["model"]["num_atoms"] == 9


def write_fit_config(path):
    """The same configuration without what belongs to `measure`, in the working folder."""
    settings = yaml.safe_load(path.read_text())
    copy = Path("config.yaml")
    copy.write_text(yaml.safe_dump({name: settings[name] for name in ("data", "model")}))
    return copy


# --- help ------------------------------------------------------------------------------------------------------------


def helped(capsys, *words):
    with pytest.raises(SystemExit) as exited:
        main(list(words))
    assert exited.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_what_a_command_takes(here, capsys, command):
    shown = helped(capsys, command, "--help")
    for option in ("--data", "--model.lam", "--model.expansion", "--trainer.max_epochs", "--adaptive_penalty.ratio"):
        assert option in shown
    assert "atoms per dimension" in shown  # docstrings are shown
    for option in {"measure": ["--controls", "--seeds", "--output"]}.get(command, ["--ckpt_path"]):
        assert option in shown


def test_help_lists_the_commands(here, capsys):
    shown = helped(capsys, "--help")
    for command in [*COMMANDS, "plugins"]:
        assert command in shown


def test_help_explains_a_plugin(here, capsys):
    shown = helped(capsys, "fit", "--data.help=SparseLinear")
    for option in ("--data.active", "--data.noise", "--data.val_split", "--data.batches_per_round"):
        assert option in shown
    assert "mean number of active features a row" in shown


def test_help_explains_plugins(here, capsys):
    assert "plugins" in helped(capsys, "plugins", "--help")


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(here, monkeypatch, capsys):
    """Runs a command that must end with an error in a line, and returns it; nothing may have begun."""
    monkeypatch.setattr(SparseCodingModule, "training_step", lambda *_: pytest.fail("training has begun"))

    def refused(*words):
        with pytest.raises(SystemExit) as exited:
            main(list(words))
        assert exited.value.code == 2
        assert not list(here.rglob("version_*"))
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return " ".join(captured.err.rpartition("error: ")[2].split())

    return refused


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


def test_an_unknown_control_is_refused_with_the_nearest(refused):
    message = refused("measure", *SMALL, "--controls+=MatchedGausian")
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
        (["--data.active=many"], ["active", "many", "float"]),
        (["--model.lam=0"], ["lam is 0.0: give a finite penalty above 0"]),
        (["--model.lam=-1"], ["lam is -1.0: give a finite penalty above 0"]),
        (["--model.lam=abc"], ["model.lam", "abc", "float"]),
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
def test_a_bad_option_is_refused(refused, options, parts):
    message = refused("fit", *SMALL, *QUIET, *options)
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
    "words",
    [["measure", *SMALL, "--output=file/out"], ["fit", *SMALL, "--trainer.default_root_dir=file/out"]],
    ids=["measure", "fit"],
)
def test_an_output_folder_that_cannot_be_written_is_refused(refused, here, words):
    (here / "file").touch()
    message = refused(*words)
    assert "output folder file/out cannot be written" in message
    assert "give another folder" in message


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_missing_checkpoint_is_refused(refused, command):
    assert "ckpt_path is missing: give the checkpoint of a fit" in refused(command, *SMALL, *QUIET)


@pytest.mark.parametrize("command", ["fit", "predict"])
def test_a_checkpoint_that_is_not_there_is_refused(refused, command):
    message = refused(command, *SMALL, *QUIET, "--ckpt_path=nowhere.ckpt")
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
        (["--controls+=Gaussian", "--controls.d_model=8"], ["d_model is 8, but SparseLinear a=1.5 has width 16"]),
    ],
    ids=["seeds", "jobs", "share", "width"],
)
def test_a_bad_measurement_is_refused(refused, options, parts):
    message = refused(*MEASURE, *options)
    for part in parts:
        assert part in message

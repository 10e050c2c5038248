"""Values of options, configurations, plugins: what is wrong is said in a line before any work, or the command runs."""

import json
import pickle
import re
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import strategies as st

from sparsecode_pl.cli import main
from sparsecode_pl.data import write_store
from sparsecode_pl.utilities import entry_points

from .damage import DAMAGE, ODD, Trap, damage, ends, fresh_copy

DATA = {
    **{"data": "SparseLinear", "data.d_model": 4, "data.num_features": 6, "data.active": 1.5, "data.num_samples": 40},
    **{"data.batch_size": 16, "data.batches_per_round": 1},
}
MODEL = {"model.lam": 0.1, "model.num_atoms": 8}  # at a fixed penalty a fit ends after one round
TRAINER = {"trainer.max_epochs": 1, "trainer.accelerator": "cpu", "trainer.enable_progress_bar": "false"}
QUIET = {"trainer.logger": "false", "trainer.enable_checkpointing": "false"}
FIT = {**DATA, **MODEL, **TRAINER, **QUIET}
MEASURE = {**DATA, **MODEL, **TRAINER, "jobs": 1, "output": "out"}

WORDS = [
    "",
    "nan",
    "inf",
    "-1",
    "0",
    "0.5",
    "1e300",
    "abc",
    "[1,2]",
    "{}",
    "[]",
    "true",
    "null",
    "ä😀\u202e",
    "x" * 300,
]
CLASSES = ["nope", "os.system", "../x", "{class_path: os.getcwd}", "{class_path: [1]}", "sparsecode_pl.Dictionary"]
PATHS = ["nowhere", "file", "file/x", "/dev/null", "/dev/null/x", "..", ".", "x" * 300, "ä😀", "a\nb", "~nobody/x"]

# Numbers that ask for more work or processes than a test may do are left out.
OPTIONS: dict[str, list[str]] = {
    **{f"data.{name}": WORDS for name in ("d_model", "num_features", "active", "noise", "num_samples", "batch_size")},
    **{f"data.{name}": WORDS for name in ("val_split", "unseen_split", "seed", "zipf", "log_std", "group_size")},
    **{f"data.{name}": WORDS for name in ("tree_depth", "child_probability", "cluster_size", "cluster_cosine")},
    **{f"data.{name}": WORDS for name in ("batches_per_round", "num_workers", "heldout_by", "unseen_by", "remove")},
    **{f"model.{name}": WORDS for name in ("num_atoms", "expansion", "lam", "eval_lam", "init", "scale", "learn")},
    **{f"model.{name}": WORDS for name in ("dictionary_steps", "seed")},
    **{f"model.{name}": [*WORDS, *CLASSES] for name in ("coder", "optimizer", "lr_scheduler")},
    **{f"adaptive_penalty.{name}": WORDS for name in ("ratio", "tolerance")},
    **{f"trainer.{name}": WORDS for name in ("max_steps", "min_epochs", "max_time", "log_every_n_steps", "precision")},
    **{f"trainer.{name}": WORDS for name in ("limit_train_batches", "limit_val_batches", "overfit_batches")},
    **{f"trainer.{name}": WORDS for name in ("val_check_interval", "check_val_every_n_epoch", "gradient_clip_val")},
    **{f"trainer.{name}": WORDS for name in ("accumulate_grad_batches", "gradient_clip_algorithm", "fast_dev_run")},
    **{f"trainer.{name}": [*WORDS, *CLASSES] for name in ("callbacks", "plugins", "profiler")},
    "trainer.devices": ["0", "-2", "", "abc", "nan", "[]", "1.5"],
    "trainer.num_nodes": ["0", "-1", "abc", ""],
    "trainer.strategy": ["nope", "", *CLASSES],
    "trainer.accelerator": ["gpu", "tpu", "", *CLASSES],
    "trainer.default_root_dir": ["file/x", "x" * 300, "/dev/null/x"],
    "ckpt_path": [*PATHS, "", "nowhere.ckpt", "best", "hpc", "http://localhost:1/x.ckpt"],
    "seed_everything": [*WORDS, str(10**30)],
    "nonsense": ["1"],
    "data": [
        *CLASSES,
        "",
        "[1]",
        "1",
        "Gausian",
        "ActivationStore",
        "ControlOf",
        "sparsecode_pl.data.ActivationDataModule",
    ],
}
OF_MEASURE: dict[str, list[str]] = {
    **dict.fromkeys(("seeds", "exact", "truth"), WORDS),
    "jobs": ["0", "-1", "nan", "", "abc", "1.5"],
    "resume": ["", *PATHS],
    "output": ["file", "file/x", "x" * 300, "/dev/null/x"],
    **{name: ["", "1", "[]", "[1]", "{}", *CLASSES, "[nope]"] for name in ("controls", "also", "evaluations")},
    "explained_variance": [*WORDS, "[0.5,nan]", "[0.5,0.5]", "[]", "[[0.5]]", "['a']"],
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, empty_figures) -> Path:
    """A working folder with a file in it, and a process whose own command line is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sparsecode"])
    (tmp_path / "file").touch()
    return tmp_path


@pytest.fixture
def command(capsys, counted) -> Callable[..., str | None]:
    """Runs a command; returns its one-line error, or None if it ran."""

    def command(suite: str, *words: str) -> str | None:
        capsys.readouterr()
        code = 0
        try:
            with ends():
                main(list(words))
        except SystemExit as exited:
            code = exited.code
        counted(suite, "refused" if code else "answered")
        if code == 0:
            return None
        shown = capsys.readouterr()
        found = re.search(r"^error: (.*)", shown.err, re.MULTILINE | re.DOTALL)
        assert code == 2, f"{words}: {shown.err}"
        assert shown.out == "", words
        assert "Traceback" not in shown.err, words
        assert found, f"{words}: {shown.err}"
        return found[1].strip()

    return command


def _words(settings: dict[str, Any]) -> list[str]:
    return [f"--{name}={value}" for name, value in settings.items()]


def _choices(options: dict[str, list[str]]) -> st.SearchStrategy[tuple[str, str]]:
    return st.sampled_from([(name, value) for name, values in options.items() for value in values])


def test_options_of_fit(command, fuzz):
    @fuzz(_choices(OPTIONS), cases=3, many=150)
    def _(option):
        name, value = option
        if value == "null" and name.startswith("data."):
            return  # arguments of data modules that are of another type are the matter of the suite of functions
        message = command("options of fit", "fit", *_words({**FIT, name: value}))
        if message is not None:
            named = (name.rpartition(".")[2], value, "SparseLinear")  # rows that cannot be used are named by their data
            assert any(each in message for each in named), f"--{name}={value}: {message}"


def test_options_of_measure(command, fuzz):
    @fuzz(_choices(OF_MEASURE), cases=2, many=50)
    def _(option):
        name, value = option
        message = command("options of measure", "measure", *_words({**MEASURE, name: value}))
        if message is not None:
            named = (name, value.strip("[]") or name)  # a plugin that is not known is named itself
            assert any(each in message for each in named), f"--{name}={value}: {message}"


SIZES = ["model.num_atoms", "model.expansion", "data.d_model", "data.num_features", "data.num_samples"]


@pytest.mark.parametrize("name", SIZES)
def test_sizes_beyond_all_memory(command, name, long):
    if long or name in SIZES[:1]:
        settings = {**FIT, name: 10**15}
        if name == "model.expansion":
            del settings["model.num_atoms"]
        assert command("sizes", "fit", *_words(settings)) is not None


def test_arguments_of_other_commands(command, fuzz):
    commands = [("report", 1), ("export", 2), ("cache", 1), ("plugins", 1), ("nonsense", 1), ("", 0)]

    @fuzz(
        st.sampled_from(commands),
        st.sampled_from([*PATHS, "--nonsense", "--data=Gaussian", *CLASSES]),
        cases=4,
        many=50,
    )
    def _(form, value):
        name, arguments = form
        message = command("other commands", name, *[value] * arguments)
        assert message, (name, value)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """The folder of a checkpoint."""
    folder = tmp_path_factory.mktemp("fit")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["sparsecode"])
        main(["fit", *_words({**FIT, "trainer.logger": "true", "trainer.enable_checkpointing": "true"})])
    (found,) = folder.rglob("*.ckpt")
    (folder / "alone").mkdir()
    return found.rename(folder / "alone" / "some.ckpt").parent


def test_damaged_checkpoints(checkpoint, command, fuzz, tmp_path):
    """A damaged checkpoint is refused by every command that reads one; no pickle is run."""

    @fuzz(st.sampled_from(["fit", "validate", "test", "predict", "export"]), DAMAGE, cases=3, many=60)
    def _(name, case):
        copy = fresh_copy(checkpoint, tmp_path / "copy")
        way, path = damage(copy, case, tmp_path / "trap")
        if name == "export":
            command("damaged checkpoints", "export", str(path), str(copy / "exported"))
        else:
            message = command("damaged checkpoints", name, f"--ckpt_path={path}", *_words({**DATA, **TRAINER, **QUIET}))
            assert message is None or path.name in message or way == "flip", message
        assert not (tmp_path / "trap").exists(), "a pickle was run"


@pytest.mark.parametrize("name", ["fit", "validate", "export"])
def test_a_pickle_in_place_of_a_checkpoint_is_not_run(checkpoint, command, name, tmp_path):
    path = fresh_copy(checkpoint, tmp_path / "copy") / "some.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": Trap(tmp_path / "trap")}))
    words = [str(path), "out"] if name == "export" else [f"--ckpt_path={path}", *_words({**DATA, **TRAINER, **QUIET})]
    assert "some.ckpt" in command("pickle", name, *words)
    assert not (tmp_path / "trap").exists()


# --- configurations --------------------------------------------------------------------------------------------------

CONFIG = {
    "seed_everything": 0,
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, "logger": False},
    "model": {"lam": 0.1, "num_atoms": 8, "coder": {"class_path": "GreedyCoder", "init_args": {"max_atoms": 3}}},
    "data": {
        "class_path": "SparseLinear",
        "init_args": {"d_model": 4, "num_features": 6, "active": 1.5, "num_samples": 40, "batches_per_round": 1},
    },
}
TEXTS = [
    *("", "\0", "[]", "1", "text", "a: b: c", "- a\n- b", "{", "%YAML 9.9\n---\n", "key: [1, 2", "\t", "&a [*a]", "*a"),
    *(
        "model: &m {lam: 0.1}\ndata: *m",
        "<<: {model: {lam: 0.1}}",
        "? [a]\n: 1",
        "model: {lam: 0.1, lam: 0.2}",
        "ä: 😀",
    ),
    *("model: [lam, 0.1]", "model: null", "data: null", "fit: {fit: {}}", "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]"),
    "model: {lam: " + "9" * 5000 + "}",
    "model: " + "{a: " * 400 + "1" + "}" * 400,
    "!!python/object/apply:os.open ['TRAP', 65]",
    "model: !!python/object/apply:os.open ['TRAP', 65]",
    "data: {class_path: !!python/name:os.open }",
    "data: {class_path: os.open, init_args: {path: 'TRAP', flags: 65}}",
    "model: {optimizer: {class_path: os.open, init_args: {path: 'TRAP', flags: 65}}}",
    "trainer: {callbacks: [{class_path: os.open, init_args: {path: 'TRAP', flags: 65}}]}",
]


def test_configurations(command, fuzz, here):
    trap = here / "trap"

    @fuzz(st.sampled_from(TEXTS), cases=3, many=60)
    def _(text):
        (here / "config.yaml").write_text(text.replace("TRAP", str(trap)))
        message = command(
            "configurations", "fit", "--config=config.yaml", *_words(FIT if "TRAP" not in text else QUIET)
        )
        assert message is None or "TRAP" not in text or message
        assert not trap.exists(), text


def test_configurations_with_odd_entries(command, fuzz, here):
    places = [(), *_paths(CONFIG)]
    odd = [value for value in ODD if value != 10**400]

    @fuzz(st.sampled_from(places), st.sampled_from(odd), st.booleans(), cases=2, many=60)
    def _(place, value, added):
        config = json.loads(json.dumps(CONFIG))
        holder = config
        for key in place[:-1]:
            holder = holder[key]
        if added and isinstance(holder, dict):
            holder["unknown"] = value
        elif place:
            holder[place[-1]] = value
        else:
            config = value
        (here / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
        command("configurations, odd entries", "fit", "--config=config.yaml", "--trainer.enable_checkpointing=false")


def _paths(content: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        path
        for key, value in content.items()
        for path in [(key,), *((key, *rest) for rest in (_paths(value) if isinstance(value, dict) else []))]
    ]


# --- plugins ---------------------------------------------------------------------------------------------------------

_DATA = "from sparsecode_pl.data import ActivationDataModule\nclass Plugin(ActivationDataModule):\n"
BROKEN = {
    "no_such_package": None,
    "raises": "raise RuntimeError('no GPU here')",
    "exits": "import sys; sys.exit(3)",
    "misspelt": "def broken(:",
    "lacks": "",
    "value": "Plugin = 3",
    "function": "def Plugin(): pass",
    "other": "class Plugin: pass",
    "unfinished": f"{_DATA} load = None",
    "old": f"{_DATA} def parts(self): 1",
}


@pytest.fixture
def installed(monkeypatch, here) -> Callable[..., None]:
    """Names modules of these contents in a group of entry points, beside those that are installed."""

    def install(group: str, **modules: str | None) -> None:
        monkeypatch.syspath_prepend(str(here))
        entries = []
        for name, content in modules.items():
            if content is not None:
                (here / f"plugin_{name}.py").write_text(content)
            entries.append(EntryPoint(f"My{name}", f"plugin_{name}:Plugin", group))
        real = entry_points.entry_points
        monkeypatch.setattr(
            entry_points,
            "entry_points",
            lambda *, group: [*real(group=group), *(entry for entry in entries if entry.group == group)],
        )

    return install


GROUPS = ["sparsecode_pl.datamodules", "sparsecode_pl.controls", "sparsecode_pl.coders", "sparsecode_pl.evaluations"]


@pytest.mark.parametrize("group", GROUPS)
def test_a_broken_plugin_is_named_and_the_others_go_on(installed, command, group, long, capsys):
    broken = {name: content for name, content in BROKEN.items() if name not in ("unfinished", "old") or "data" in group}
    installed(group, **broken)
    listed = group in GROUPS[:2]
    if not (long or listed):
        pytest.skip("in the long form")
    with pytest.warns(UserWarning, match="is left out because it cannot be imported") as warned:
        command("plugins", *(["plugins"] if listed else ["fit", *_words(FIT)]))
    for name in broken.keys() - {"unfinished"}:
        assert any(f"plugin My{name} is left out" in str(each.message) for each in warned), name
    if listed:
        assert "SparseLinear" in capsys.readouterr().out


def test_another_plugin_is_measured_beside_broken_ones(installed, command, here):
    installed("sparsecode_pl.datamodules", **BROKEN)
    with pytest.warns(UserWarning, match="is left out"):
        assert command("plugins", "measure", *_words(MEASURE)) is None
    (record,) = json.loads((here / "out/version_0/results.json").read_text())["results"]
    assert record["S1"] >= 1


def test_a_broken_plugin_is_refused_by_name_when_it_is_asked_for(installed, command):
    installed("sparsecode_pl.datamodules", **BROKEN)
    with pytest.warns(UserWarning, match="is left out"):
        message = command("plugins", "fit", "--data=Myraises")
    assert "Myraises" in message
    assert "no GPU here" in message


def test_two_plugins_of_one_name_are_refused(installed, monkeypatch):
    entries = [EntryPoint("Twice", f"sparsecode_{name}:Plugin", "group") for name in ("a", "b")]
    monkeypatch.setattr(entry_points, "entry_points", lambda *, group: entries)
    with pytest.raises(
        ValueError, match=r"plugin Twice is named by several packages \(sparsecode_a:Plugin, sparsecode_b"
    ):
        entry_points.load("group", "Twice", object)


# --- rows on disk ----------------------------------------------------------------------------------------------------


def test_paths_of_stores(command, fuzz, tmp_path_factory):
    store = write_store(
        tmp_path_factory.mktemp("store") / "store", [{"a": torch.randn(40, 4), "b": torch.randn(40, 3)}]
    )
    settings = {
        "data": "ActivationStore",
        "data.batch_size": 16,
        "data.batches_per_round": 1,
        **MODEL,
        **TRAINER,
        **QUIET,
    }
    options = [
        *(("path", path) for path in [*PATHS, "", str(store)]),
        *(("layer", name) for name in ("a", "all", "", "../a", "0", "nan", "ä")),
        *(("num_activations", number) for number in ("0", "-1", "39", "41", "nan", str(10**15))),
        *((name, word) for name in ("partial", "verify") for word in ("true", "maybe", "")),
    ]

    @fuzz(st.sampled_from(options), cases=2, many=30)
    def _(option):
        name, value = option
        chosen = {**settings, "data.path": store, "data.layer": "a", f"data.{name}": value}
        message = command("stores", "fit", *_words(chosen))
        assert message is None or name in message or value in message, message

"""The commands of LightningCLI: `sparsecode fit`, `validate`, `test`, `predict`, and `measure` beside them."""

import copy
import re
import sys
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, ReduceLROnPlateau
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sparsecode_pl.callbacks import AdaptivePenalty, CodeWriter, RunCheckpoint
from sparsecode_pl.callbacks.run_checkpoint import checkpoints_in, newest_run, steps_logged
from sparsecode_pl.cli.measure import check_measure, run_measurement
from sparsecode_pl.data import ActivationDataModule
from sparsecode_pl.data.registry import available_data, unknown_plugin
from sparsecode_pl.measurement.run import MeasurementError, check_writable
from sparsecode_pl.measurement.trainer import run_callbacks
from sparsecode_pl.utilities.checkpoint import read_checkpoint
from sparsecode_pl.utilities.files import UNWRITABLE

_SUMMARIES = {
    "plugins": "list the data and controls that can be measured",
    "measure": "fit data beside controls: a table, a picture, files",
    "report": "draw the table and the picture of a run again",
    "features": "look at the atoms of a dictionary",
    "cache": "keep the activations of a model's layers on disk",
    "fit": "learn the dictionary of one data set",
    "validate": "score the dictionary of a checkpoint",
    "test": "the same as validate",
    "predict": "write the codes of all rows",
    "export": "write a dictionary to a folder, also for SAELens",
}


# What tells of a wrong configuration, and is said in a line. JSONARGPARSE_DEBUG=true shows where it was raised.
_WRONG = (MisconfigurationException, OSError, TypeError, ValueError, ImportError, MemoryError)
# How errors call the types of values.
_WORDS = {"int": "an integer", "float": "a number", "str": "a text", "bool": "true or false", "NoneType": "null"}
_WORDS |= {"dict": "a mapping", "list": "a list", "Iterable": "a list"}

# Options that take plugins, whose names jsonargparse looks up.
_OF_PLUGINS = ("data", "control", "controls", "also")


def _plain(message: str) -> str:
    """What jsonargparse says of a value of another type, in the words of this project's errors."""
    _, found, rest = message.rpartition('Parser key "')
    name, _, reasons = rest.partition('":')
    value = re.search(r"(?:Given|Got) value: ?(.*)", reasons)
    words = re.findall(r"Expected an? typing\.Literal\[(.*?)\]", reasons)
    if re.search("dot import path|valid subclass|correspond to a subclass", reasons):
        words.append("a class path")
    types = re.findall(r"Expected an? <class '(?:\w+\.)*(\w+)'>", reasons)
    words += [_WORDS.get(each, f"a {each}") for each in types]
    if not (found and value and words):
        return message
    return f"{name} is {value[1].strip()!r}: give {' or '.join(dict.fromkeys(words))}"


class SparseCodingParser(LightningArgumentParser):
    """A parser whose errors come to the point."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with the message: without the types that did not fit, and with the plugin that was meant."""
        message = re.sub(r"^Call to compute_fn of link .* failed: ", "", message, flags=re.DOTALL)
        unknown = re.search(r"Expected a dot import path string: (\S+)", message)
        path = (re.findall(r'Parser key "([\w.]+)', message) or [""])[-1]
        key = path.partition(".")[0]
        reasons = re.findall(
            r"^\s*- (?!Expected a |Does not)(.+?)(?=^\s*- |^\s*Given value)", message, re.MULTILINE | re.DOTALL
        )
        if "ActivationDataModule is abstract" in message or re.search(
            r"arguments are required: (\w+\.)?data$", message
        ):
            message = f"data is missing: give --data NAME, one of {', '.join(available_data())}"
        elif unknown and key in _OF_PLUGINS:
            message = unknown_plugin(unknown[1])
        else:
            if "Union subtypes" in message and len(reasons) == 1:
                message = " ".join(reasons[0].split())
            message = _plain(re.sub(r"^Problem with given class_path '\S+':\s*", "", message))
            if path and re.match(r"Import path|unhashable", message):
                message = f"{path}: {message}"
        super().error(message, ex)

    def add_subcommands(self, *args: Any, **kwargs: Any) -> Any:
        """Add subcommands, and keep the object that takes further ones."""
        self.commands = super().add_subcommands(*args, **kwargs)
        return self.commands


class SparseCodingCLI(LightningCLI):
    """LightningCLI with the plugins, the measurement and the project's callbacks.

    Args:
        further_commands: parsers of the commands that are run elsewhere, by name, so that the help lists all.
    """

    def __init__(self, *args: Any, further_commands: dict[str, ArgumentParser] | None = None, **kwargs: Any) -> None:
        self._further_commands = further_commands or {}
        self._resumed: Path | None = None  # the run folder in which a fit goes on
        self._purged_step = 0
        super().__init__(*args, **kwargs)

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        super()._add_subcommands(parser, **kwargs)
        if not isinstance(parser, SparseCodingParser):
            return
        for name, command in self._further_commands.items():
            parser.commands.add_subcommand(name, command)
        # One line for each command, in place of the beginnings of Lightning's docstrings.
        for entry in (choices := parser.commands._choices_actions):
            entry.help = _SUMMARIES[entry.dest]
        choices.sort(key=lambda entry: list(_SUMMARIES).index(entry.dest))

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The subcommands, each with the arguments that do not come from the command line."""
        theirs = LightningCLI.subcommands()
        # A checkpoint is always read without running code.
        theirs = {name: arguments | {"weights_only"} for name, arguments in theirs.items()}
        return {"measure": {"model", "datamodule"}, **theirs}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """The parser of a subcommand, in which `--exact` says the same as `--exact true`, and so on."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        for action in parser._actions:
            if action.dest in ("exact", "loss", "truth"):
                action.nargs, action.const = "?", True
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The width comes from the data; the adaptive penalty and the checkpoints have groups of their own."""
        parser.link_arguments("data", "model.d_model", compute_fn=_width, apply_on="instantiate")
        parser.add_lightning_class_args(AdaptivePenalty, "adaptive_penalty")
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the command line, and keep it for when a checkpoint has been read."""
        self._args = args
        try:
            super().parse_arguments(parser, args)
        except (ArithmeticError, RecursionError, TypeError, ValueError) as error:  # of a value that no parser looks at
            parser.error(f"the configuration cannot be read: {error}", error)

    def _set_seed(self) -> None:
        """Set the seed of the process, if the configuration has one."""
        try:
            super()._set_seed()
        except (ArithmeticError, TypeError, ValueError) as error:
            self.parser.error(f"seed_everything: {error}: give an integer from 0 to 4294967295", error)

    def _parse_ckpt_path(self) -> None:
        """Find the checkpoint. Its settings of the module are defaults: what the command line says goes before them."""
        config = self.config[self.config.subcommand]
        try:
            if config.get("ckpt_path") == "last":
                self._resume_last(config)
            path = config.get("ckpt_path")
            if not path or not Path(path).is_file():
                return
            settings = read_checkpoint(path).get("hyper_parameters", {})
        except (OSError, ValueError) as error:
            self.parser.error(str(error), error)
        known = {f"model.{name}": value for name, value in settings.items() if name[0] != "_" and name != "d_model"}
        self._parser(self.config.subcommand).set_defaults(known)
        super().parse_arguments(self.parser, self._args)
        self.config[self.config.subcommand]["ckpt_path"] = path

    def _resume_last(self, config: Any) -> None:
        """Put the newest checkpoint of the newest run in the place of "last"; a fit goes on in the folder of its run.

        Raises:
            FileNotFoundError: there is none, and the command is not `fit`, which then begins a run.
            ValueError: the checkpoint is damaged.
        """
        root = config["trainer"]["default_root_dir"] or "."
        run = newest_run(root)
        if run is None or not checkpoints_in(run / "checkpoints"):
            none_yet = f"there is no checkpoint in {run or Path(root, 'lightning_logs')}"
            if self.config.subcommand != "fit":
                raise FileNotFoundError(f"ckpt_path is 'last', but {none_yet}: give the path of a checkpoint")
            rank_zero_info(f"ckpt_path is 'last', and {none_yet} yet: a new run begins")
            config["ckpt_path"] = None
            return
        newest, *before = checkpoints_in(run / "checkpoints")
        try:
            step = steps_logged(read_checkpoint(newest))
        except ValueError as error:
            cure = f"to resume from the one before, {before[0].name}, remove it" if before else "start a new run"
            raise ValueError(f"{error}. It is the last of {run}: {cure}") from error
        config["ckpt_path"] = str(newest)
        if self.config.subcommand == "fit":
            if run != Path(root):  # where there is no logger, there is no run folder
                self._resumed, self._purged_step = run, step
            rank_zero_info(f"resuming {run} from {newest.name}")

    def instantiate_classes(self) -> None:
        """Instantiate data, model and trainer; what is wrong with them is said in a line, without a traceback."""
        try:
            self._check_config()
            super().instantiate_classes()
            if self.subcommand != "measure":
                self._check_one_layer()
        except Exception as error:
            self._refuse(error)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the command; what is found wrong before the first step, and a failing disk, is said in a line too."""
        try:
            super()._run_subcommand(subcommand)
        except Exception as error:
            begun = self.trainer.global_step > 0
            if isinstance(error, OSError) and (error.errno in UNWRITABLE or (begun and error.errno is None)):
                self._tell_safe(str(error), "free some space or make it writable", error)
            elif isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
                reason = f"a loader process was lost, perhaps because memory ran out ({str(error).splitlines()[0]})"
                self._tell_safe(reason, "lower data.num_workers", error)
            elif begun:
                raise
            self._refuse(error)

    def _tell_safe(self, reason: str, cure: str, error: Exception) -> NoReturn:
        """Exit with what went wrong, what is safe, and how to go on."""
        paths = (getattr(each, "last_model_path", "") for each in self.trainer.checkpoint_callbacks)
        saved = next(filter(None, paths), "")
        safe = f"{saved} is safe; to go on from there, " if saved else ""
        again = " with --ckpt_path last" if saved else ""
        self.parser.error(f"{reason}; {safe}{cure}, and run the same{again}", error)

    def _refuse(self, error: Exception) -> NoReturn:
        """Exit with what an error says, if it tells of a wrong configuration."""
        if "allocate memory" in str(error):  # PyTorch's error is a RuntimeError
            error = MemoryError(f"there is not enough memory: give smaller data, or fewer atoms. {error}")
        if not isinstance(error, _WRONG):
            raise error
        self.parser.error(str(error) or type(error).__name__, error)

    def _check_one_layer(self) -> None:
        layers = self.datamodule.layers
        if len(layers) > 1:
            raise ValueError(
                f"data are {len(layers)} layers ({', '.join(layer.label for layer in layers)}), and {self.subcommand} "
                "is for one: give one of them, or use `sparsecode measure`"
            )

    def _check_config(self) -> None:
        """Find what would fail late before any data is loaded."""
        config = self.config[self.subcommand]
        if not hasattr(config["model"], "get"):
            raise ValueError(f"model is {config['model']!r}: give its settings by name, such as model.lam")
        if self.subcommand == "measure":
            check_measure(config["seeds"], config["explained_variance"], config["jobs"], config["resume"])
            check_writable(config["resume"] or config["output"])
        else:
            check_writable(config["trainer"]["default_root_dir"] or ".")
        for name, bases in {"optimizer": (Optimizer,), "lr_scheduler": (LRScheduler, ReduceLROnPlateau)}.items():
            if chosen := config["model"].get(name):
                _check_class(name, chosen["class_path"], bases)
        path = config.get("ckpt_path")
        cure = "give the checkpoint of a fit, lightning_logs/.../checkpoints/*.ckpt"
        if self.subcommand in ("validate", "test", "predict") and not path:
            raise ValueError(f"ckpt_path is missing: {cure}")
        if str(path).endswith(".ckpt") and not Path(path).is_file():
            raise ValueError(f"ckpt_path is {path}, and there is no such file: {cure}")
        if self.subcommand == "predict" and config["return_predictions"] is None:
            config["return_predictions"] = False  # they are on disk, and may not fit in memory

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer with callbacks of its own, so that one fit leaves no trace in the next."""
        config = {**copy.deepcopy(dict(self._get(self.config_init, "trainer"))), **kwargs}
        callbacks = run_callbacks(
            self.model,
            self._get(self.config_init, "adaptive_penalty"),
            config["enable_progress_bar"] is not False,
            None if config["enable_checkpointing"] is False else self._get(self.config_init, "checkpoint"),
        )
        if self.subcommand == "predict":
            callbacks.append(CodeWriter())
        if config["logger"] is False:
            self.save_config_callback = None  # there is no folder for it
        if config["logger"] in (None, True):
            again: dict[str, Any] = {}
            if self._resumed is not None:
                again = {"version": self._resumed.name, "purge_step": self._purged_step}
                self.save_config_kwargs["overwrite"] = True
            root = config["default_root_dir"] or "."
            config["logger"] = TensorBoardLogger(root, name="lightning_logs", default_hp_metric=False, **again)
        return self._instantiate_trainer(config, callbacks)

    def measure(self, **kwargs: Any) -> None:
        """Run the measurement, with a trainer made from the configuration for each fit."""
        self.save_config_callback = None  # the configuration is the whole run's, and stands in results.json
        config = dict(self._get(self.config_init, "trainer"))
        penalty = self._get(self.config_init, "adaptive_penalty")
        checkpoint = self._get(self.config_init, "checkpoint")
        settings = yaml.safe_load(self._parser("measure").dump(self.config["measure"], skip_link_targets=False))
        try:
            run_measurement(
                self.model, self.datamodule, config, penalty, checkpoint, self.trainer_class, settings, **kwargs
            )
        except MeasurementError as error:
            sys.exit(f"error: {error}")
        except (OSError, TypeError, ValueError) as error:
            self.parser.error(str(error), error)


def _check_class(name: str, path: str, bases: tuple[type, ...]) -> None:
    """Refuse a class path of something else: jsonargparse would call any function with the arguments given.

    Raises:
        ValueError: it is not that of such a class.
    """
    try:
        found = resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        found = None
    if not (isinstance(found, type) and issubclass(found, bases)):
        words = " or ".join(base.__name__ for base in bases)
        raise ValueError(f"{name} is {path!r}, which is no class of that kind: give the class path of an {words}")


def _width(data: ActivationDataModule) -> int:
    return data.d_model

"""The `sparsecode` command."""

import argparse
import copy
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from jsonargparse import ActionConfigFile
from lightning import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from sparsecode_pl.callbacks import AdaptivePenalty, CodeWriter
from sparsecode_pl.data import ActivationDataModule, Control, fill_store, import_plugins
from sparsecode_pl.data.registry import available_data, plugin_kind, unknown_plugin
from sparsecode_pl.measurement.jobs import default_jobs
from sparsecode_pl.measurement.run import MeasurementError, check_options, check_writable, measure_subjects
from sparsecode_pl.measurement.subjects import prepare
from sparsecode_pl.measurement.trainer import TRAINER_DEFAULTS, default_trainer, run_callbacks
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.utilities.quiet import quiet_lightning


class MeasuringTrainer(Trainer):
    """Lightning's trainer: devices, precision, number of rounds (max_epochs) and more."""

    # LightningCLI reads the arguments of a subcommand from the trainer's method of that name.
    def measure(
        self,
        model: SparseCodingModule,
        datamodule: ActivationDataModule,
        controls: list[Control] | None = None,
        also: list[ActivationDataModule] | None = None,
        seeds: int = 1,
        explained_variance: float | None = None,
        exact: bool = False,
        jobs: int | None = None,
        output: str = "lightning_logs/measure",
    ) -> None:
        """Fit data and its controls; print one table, write results and a picture.

        Args:
            model: an untrained module.
            datamodule: what is measured.
            controls: what it is held against.
            also: further data, such as another model, for the same table and picture, with controls alike.
            seeds: initial dictionaries for each data set; with more than one, mean and spread are given.
            explained_variance: score at the largest penalty at which the codes explain this share of the variance of
                the training rows, such as 0.98; at the penalty of training by default.
            exact: score with the exact codes too, which the coder approximates, and tell how far apart the two are.
            jobs: data sets fitted at a time, in processes of their own; by default one for each GPU, or for every two
                cores where there is none, and 1 where the trainer spreads one fit over devices or nodes.
            output: folder in which the run gets a numbered folder of its own.
        """
        raise NotImplementedError("SparseCodingCLI.measure runs in its place")


class SparseCodingParser(LightningArgumentParser):
    """A parser whose errors come to the point."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with the message: without the types that did not fit, and with the plugin that was meant."""
        message = re.sub(r"^Call to compute_fn of link .* failed: ", "", message, flags=re.DOTALL)
        unknown = re.search(r"Expected a dot import path string: (\S+)", message)
        reasons = re.findall(r"^\s*- (?!Expected a )(.+?)(?=^\s*- |^\s*Given value)", message, re.MULTILINE | re.DOTALL)
        if "ActivationDataModule is abstract" in message or re.search(
            r"arguments are required: (measure\.)?data$", message
        ):
            message = f"data is missing: give --data NAME, one of {', '.join(available_data())}"
        elif unknown:
            message = unknown_plugin(unknown[1])
        elif "Union subtypes" in message and len(reasons) == 1:
            message = " ".join(reasons[0].split())
        super().error(message, ex)


class SparseCodingCLI(LightningCLI):
    """LightningCLI with the plugins, the measurement and the project's callbacks."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The subcommands, each with the arguments that do not come from the command line."""
        return {"measure": {"model", "datamodule"}, **LightningCLI.subcommands()}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """The parser of a subcommand, in which `--exact` says the same as `--exact true`."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        for action in parser._actions:
            if action.dest == "exact":
                action.nargs, action.const = "?", True
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The width comes from the data; the adaptive penalty has a group of its own."""
        parser.link_arguments("data", "model.d_model", compute_fn=_width, apply_on="instantiate")
        parser.add_lightning_class_args(AdaptivePenalty, "adaptive_penalty")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the command line, and keep it for when a checkpoint has been read."""
        self._args = args
        super().parse_arguments(parser, args)

    def _parse_ckpt_path(self) -> None:
        """A checkpoint's settings of the module are defaults: what the command line says goes before them."""
        path = self.config[self.config.subcommand].get("ckpt_path")
        if not path or not Path(path).is_file():
            return
        settings = torch.load(path, weights_only=True, map_location="cpu").get("hyper_parameters", {})
        known = {f"model.{name}": value for name, value in settings.items() if name[0] != "_" and name != "d_model"}
        self._parser(self.config.subcommand).set_defaults(known)
        super().parse_arguments(self.parser, self._args)

    def instantiate_classes(self) -> None:
        """Instantiate data, model and trainer; what is wrong with them is said in a line, without a traceback."""
        try:
            self._check_config()
            super().instantiate_classes()
            if self.subcommand != "measure":
                self._check_one_layer()
        except (OSError, TypeError, ValueError) as error:
            self.parser.error(str(error), error)

    def _check_one_layer(self) -> None:
        layers = self.datamodule.sources()
        if len(layers) > 1:
            raise ValueError(
                f"data are {len(layers)} layers ({', '.join(layer.label for layer in layers)}), and {self.subcommand} "
                "is for one: give one of them, or use `sparsecode measure`"
            )

    def _check_config(self) -> None:
        """Find what would fail late before any data is loaded."""
        config = self.config[self.subcommand]
        root = config["trainer"]["default_root_dir"] or "."
        check_writable(config["output"] if self.subcommand == "measure" else root)
        if self.subcommand == "measure":
            check_options(
                config["seeds"], config["explained_variance"], 1 if config["jobs"] is None else config["jobs"]
            )
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
        penalty = self._get(self.config_init, "adaptive_penalty")
        callbacks = run_callbacks(self.model, penalty, config["enable_progress_bar"] is not False)
        if self.subcommand == "predict":
            callbacks.append(CodeWriter())
        if config["logger"] is False:
            self.save_config_callback = None  # there is no folder for it
        if config["logger"] in (None, True):
            config["logger"] = TensorBoardLogger(
                config["default_root_dir"] or ".", name="lightning_logs", default_hp_metric=False
            )
        return self._instantiate_trainer(config, callbacks)

    def measure(self, **kwargs: Any) -> None:
        """Run the measurement, with a trainer made from the configuration for each fit."""
        self.save_config_callback = None  # the configuration is the whole run's, and stands in results.json
        config = dict(self._get(self.config_init, "trainer"))
        jobs = kwargs["jobs"]
        if jobs is None:
            jobs = default_jobs(config["accelerator"], config["devices"], config["num_nodes"])
        options = kwargs["seeds"], kwargs["explained_variance"], kwargs["exact"], jobs
        try:
            subjects = prepare(self.model, [self.datamodule, *(kwargs["also"] or ())], kwargs["controls"] or ())
        except (OSError, TypeError, ValueError) as error:
            self.parser.error(str(error), error)
        callbacks = config.pop("callbacks") or []
        trainer = partial(
            default_trainer,
            adaptive_penalty=self._get(self.config_init, "adaptive_penalty"),
            callbacks=callbacks if isinstance(callbacks, list) else [callbacks],
            trainer_class=self.trainer_class,
            **{name: value for name, value in config.items() if name != "logger"},
        )
        settings = yaml.safe_load(self._parser("measure").dump(self.config["measure"], skip_link_targets=False))
        try:
            measure_subjects(subjects, *options, Path(kwargs["output"]), trainer, settings)
        except MeasurementError as error:
            sys.exit(f"error: {error}")


def _width(data: ActivationDataModule) -> int:
    return data.d_model


def list_plugins() -> None:
    """List the installed data and controls, with a sentence each."""
    console = Console()
    for name, cls in import_plugins().items():
        sentence = (cls.__doc__ or "").strip().partition("\n")[0]
        package = cls.__module__.partition(".")[0]
        console.print(f"[bold]{name}[/bold]  ({plugin_kind(name)}; {package})", highlight=False)
        console.print(Padding(escape(sentence), (0, 0, 0, 4)), highlight=False)


def cache(words: list[str]) -> None:
    """Fill an activation store, in one forward pass over the text, which `--data ActivationStore` then reads.

    What was cut off goes on where it was when the same is run again.
    """
    parser = SparseCodingParser(prog="sparsecode cache", description=cache.__doc__ or "")
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="Path to a configuration file.")
    parser.add_subclass_arguments(ActivationDataModule, "data", required=True)
    config = parser.parse_args(words)
    try:
        path = fill_store(parser.instantiate_classes(config).data)
    except (OSError, TypeError, ValueError) as error:
        parser.error(str(error), error)
    except KeyboardInterrupt:
        sys.exit("interrupted: the shards that are finished are safe, and the same command goes on after them")
    rank_zero_info(f"Store: {path}\nRead:  sparsecode measure --data ActivationStore --data.path {path}")


def main(args: ArgsType = None) -> None:
    """Entry point of the `sparsecode` command.

    Args:
        args: the command line; that of the process if None.
    """
    words = sys.argv[1:] if args is None else args
    words = words if isinstance(words, list) else []
    command = words[0] if words else None
    if command == "plugins":
        argparse.ArgumentParser("sparsecode plugins", description=list_plugins.__doc__).parse_args(words[1:])
        list_plugins()
        return
    quiet_lightning()
    import_plugins()  # so that their short names are known
    if command == "cache":
        cache(words[1:])
        return
    SparseCodingCLI(
        SparseCodingModule,
        ActivationDataModule,
        trainer_class=MeasuringTrainer,
        trainer_defaults=TRAINER_DEFAULTS,
        seed_everything_default=0,
        parser_class=SparseCodingParser,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        parser_kwargs={
            "description": "Measure how sparse a neural network's activations are. `sparsecode plugins` lists the data "
            "that can be measured; `--data.help NAME` after a subcommand explains one of them; `sparsecode cache` "
            "keeps a model's activations on disk."
        },
        args=args,
    )


if __name__ == "__main__":
    main()

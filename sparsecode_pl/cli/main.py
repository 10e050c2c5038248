"""Entry point of the `sparsecode` command."""

import sys

from lightning.pytorch.cli import ArgsType

from sparsecode_pl.cli import cache, export, features, plugins, report
from sparsecode_pl.cli.lightning import SparseCodingCLI, SparseCodingParser
from sparsecode_pl.cli.measure import MeasuringTrainer
from sparsecode_pl.coding import Coder
from sparsecode_pl.coding.base import CODERS
from sparsecode_pl.data import ActivationDataModule, import_plugins
from sparsecode_pl.measurement.trainer import TRAINER_DEFAULTS
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.scoring import EVALUATIONS, Evaluation
from sparsecode_pl.utilities.entry_points import load_all
from sparsecode_pl.utilities.quiet import quiet_lightning

#: The commands that need no trainer. Each module has a `parser`, whose description is the command's help, and a `run`.
COMMANDS = {"cache": cache, "plugins": plugins, "report": report, "features": features, "export": export}

_DESCRIPTION = (
    "Measure how sparse a neural network's activations are. `sparsecode plugins` lists the data that can be measured; "
    "`--data.help NAME` after a command explains one of them."
)


def main(args: ArgsType = None) -> None:
    """Run a command.

    Args:
        args: the command line; that of the process if None.
    """
    words = sys.argv[1:] if args is None else args
    words = words if isinstance(words, list) else []
    quiet_lightning()
    if words and words[0] in COMMANDS:
        COMMANDS[words[0]].run(words[1:])
        return
    import_plugins()  # so that their short names are known
    load_all(EVALUATIONS, Evaluation)  # type: ignore[type-abstract]
    load_all(CODERS, Coder)  # type: ignore[type-abstract]
    SparseCodingCLI(
        SparseCodingModule,
        ActivationDataModule,
        trainer_class=MeasuringTrainer,
        trainer_defaults=TRAINER_DEFAULTS,
        seed_everything_default=0,
        parser_class=SparseCodingParser,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        parser_kwargs={"description": _DESCRIPTION},
        further_commands={name: command.parser() for name, command in COMMANDS.items()},
        args=args,
    )

"""`sparsecode measure`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Trainer

from sparsecode_pl.callbacks import AdaptivePenalty, RunCheckpoint
from sparsecode_pl.data import ActivationDataModule, Control
from sparsecode_pl.measurement.jobs import default_jobs
from sparsecode_pl.measurement.plan import Plan
from sparsecode_pl.measurement.run import check_jobs, check_resumable, measure_subjects
from sparsecode_pl.measurement.subjects import prepare
from sparsecode_pl.measurement.trainer import default_trainer
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.scoring import Evaluation

# Arguments that make no difference to the results: a run may be resumed with others.
_NO_MATTER = ("output", "resume", "jobs", "config", "checkpoint")
_NO_MATTER_TRAINER = ("enable_progress_bar", "logger", "default_root_dir")


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
        explained_variance: float | list[float] | None = None,
        exact: bool = False,
        loss: bool = False,
        truth: bool = False,
        sae: list[str] | str | None = None,
        evaluations: list[Evaluation] | None = None,
        jobs: int | None = None,
        output: str = "lightning_logs/measure",
        resume: str | None = None,
    ) -> None:
        """Fit data and its controls; print one table, write results and a picture.

        Args:
            model: an untrained module.
            datamodule: the data to measure.
            controls: what it is held against.
            also: further data, such as another model, for the same table and picture, with controls alike.
            seeds: initial dictionaries for each data set; with more than one, mean and spread are given.
            explained_variance: score at the largest penalty at which the codes explain this share of the variance,
                such as 0.98; at the penalty of training by default. With several, such as "[0.9,0.7,0.98]", the table
                is for the first, and curves show all.
            exact: score with the exact codes too, which the coder approximates, and tell how far apart the two are.
            loss: for layers of a model, run the model with their activations replaced by each dictionary's
                reconstructions, on held-out documents, and tell what that costs it, beside a random dictionary,
                principal components, the mean and zero.
            truth: for data with a known answer, add its true features as atoms that are not trained, with greedy and
                with exact codes: they show what the dictionary and what the coder costs.
            sae: a trained sparse autoencoder, or a list of some, to hold beside the layer that it is of: a folder of
                SAELens or sparsify, a folder of a repository as user/repository:folder, or RELEASE:SAE_ID of SAELens.
                It is scored with its own encoder, and its decoder with greedy and exact codes and the learnt dictionary
                at the same N0 and the same explained variance.
            evaluations: further evaluations to compute for each dictionary.
            jobs: fits made at a time, in processes of their own; by default one for each GPU, or for every two cores
                where there is none, and 1 where the trainer spreads one fit over devices or nodes.
            output: folder in which the run gets a numbered folder of its own.
            resume: folder of an interrupted run of the same command, whose finished fits are kept.
        """
        raise NotImplementedError("SparseCodingCLI.measure runs in its place")


def check_measure(
    seeds: int, explained_variance: float | list[float] | None, jobs: int | None, resume: str | None
) -> None:
    """Find what is wrong with the options before any data is loaded.

    Raises:
        ValueError: an option is out of its range.
        FileNotFoundError: there is no run to resume.
    """
    Plan.of(seeds, explained_variance, exact=False)
    check_jobs(1 if jobs is None else jobs)
    if resume is not None:
        check_resumable(resume, {})


def run_measurement(
    module: SparseCodingModule,
    data: ActivationDataModule,
    trainer: dict[str, Any],
    penalty: AdaptivePenalty,
    checkpoint: RunCheckpoint,
    trainer_class: Callable[..., Trainer],
    settings: dict[str, Any],
    *,
    controls: list[Control] | None,
    also: list[ActivationDataModule] | None,
    seeds: int,
    explained_variance: float | list[float] | None,
    exact: bool,
    loss: bool,
    truth: bool,
    sae: list[str] | str | None,
    evaluations: list[Evaluation] | None,
    jobs: int | None,
    output: str,
    resume: str | None,
    **_: Any,
) -> None:
    """Measure as the command line says.

    Args:
        module: an untrained module.
        data: what is measured.
        trainer: arguments of the trainer.
        penalty: how the penalty is set.
        checkpoint: when checkpoints are saved.
        trainer_class: what a trainer is made by.
        settings: the whole configuration, of plain types.
        controls: see `MeasuringTrainer.measure`, as for all that follow.
        also: further data.
        seeds: number of initial dictionaries.
        explained_variance: share that the scores are for.
        exact: whether to score exact codes.
        loss: whether to run the model with reconstructions.
        truth: whether to add the true features.
        sae: autoencoders to add.
        evaluations: further evaluations to compute.
        jobs: fits made at a time.
        output: parent of the run folder.
        resume: folder of an interrupted run.
    """
    plan = Plan.of(seeds, explained_variance, exact, tuple(evaluations or ()), loss)
    plan.check(module)
    if jobs is None:
        jobs = default_jobs(trainer["accelerator"], trainer["devices"], trainer["num_nodes"])
    kept = {name: value for name, value in settings.items() if name not in _NO_MATTER}
    kept["trainer"] = {name: value for name, value in settings["trainer"].items() if name not in _NO_MATTER_TRAINER}
    if resume is not None:
        check_resumable(resume, kept)
    saes = [sae] if isinstance(sae, str) else sae or ()
    subjects = prepare(module, [data, *(also or ())], controls or (), truth, saes)
    callbacks = trainer.pop("callbacks") or []
    make_trainer = partial(
        default_trainer,
        adaptive_penalty=penalty,
        checkpoint=checkpoint,
        callbacks=callbacks if isinstance(callbacks, list) else [callbacks],
        trainer_class=trainer_class,
        **{name: value for name, value in trainer.items() if name != "logger"},
    )
    measure_subjects(subjects, plan, jobs, Path(output), resume, make_trainer, kept)

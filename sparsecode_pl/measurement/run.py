"""A whole measurement: data beside its controls."""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from sparsecode_pl.callbacks.run_checkpoint import resumable
from sparsecode_pl.data import ActivationDataModule, Control
from sparsecode_pl.measurement.autoencoders import score_arm
from sparsecode_pl.measurement.compare import with_ratios
from sparsecode_pl.measurement.fit import TrainerFactory, fit_subject
from sparsecode_pl.measurement.jobs import Failure, Job, run_jobs
from sparsecode_pl.measurement.loss import check_losses
from sparsecode_pl.measurement.plan import Plan
from sparsecode_pl.measurement.record import (
    DICTIONARY,
    FORMAT,
    RESULTS,
    Fit,
    Record,
    Results,
    load_results,
)
from sparsecode_pl.measurement.report import print_table, show_in_tensorboard, write_report
from sparsecode_pl.measurement.stability import with_stability
from sparsecode_pl.measurement.subjects import Subject, prepare
from sparsecode_pl.measurement.trainer import default_trainer
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.scoring import Evaluation
from sparsecode_pl.utilities.arguments import check_arguments
from sparsecode_pl.utilities.files import UNWRITABLE, cure, what_failed
from sparsecode_pl.utilities.plain import plain_attributes, to_json
from sparsecode_pl.utilities.ranks import from_rank_zero
from sparsecode_pl.utilities.workers import check_backend

# Settings that runs of earlier versions do not have, and what they did.
_OLDER = {"loss": False}


class MeasurementError(RuntimeError):
    """Some data sets of a measurement failed; all others are done and written."""


def measure(
    module: SparseCodingModule,
    data: ActivationDataModule | Sequence[ActivationDataModule],
    controls: Sequence[Control] = (),
    *,
    seeds: int = 1,
    explained_variance: float | Sequence[float] | None = None,
    exact: bool = False,
    loss: bool = False,
    truth: bool = False,
    saes: Sequence[str | Path] = (),
    evaluations: Sequence[Evaluation] = (),
    jobs: int = 1,
    folder: str | Path = "lightning_logs/measure",
    resume: str | Path | None = None,
    trainer: TrainerFactory = default_trainer,
    settings: dict[str, Any] | None = None,
) -> list[Record]:
    """Measure how sparse `data` is, beside its controls.

    Data of several layers is measured layer by layer, each with its own dictionary and controls. The first of the
    `seeds` initial dictionaries has the module's seed, the next that plus one, and so on. Each fit is written to its
    folder when it is done, and the files of the run are written anew. A fit that fails does not keep the others from
    going on.

    Args:
        module: an untrained module; each fit has a fresh one of its settings and of the data's width.
        data: the data to measure; several data sets share one table and one picture.
        controls: what each is held against, see `Control`; other data of the same width can be one too.
        seeds: fits of each data set, from different initial dictionaries, >= 1.
        explained_variance: score each dictionary at the largest penalty at which its codes explain this share of the
            variance of the rows that are scored, in (0, 1) (paper, appendix H); at the penalty of training if None. Of
            several shares, the first is that of the record's scores, and `record["frontier"]` holds those at all.
        exact: score each dictionary with the exact codes too, which the paper defines the scores by (section 2) and the
            coder approximates, at the same penalty, and tell how far apart the two are.
        loss: for layers of a model, run the model on the documents that are held out with the activations of the layer
            replaced by each dictionary's reconstruction, and tell what that costs it, beside a random dictionary,
            principal components, the mean and zero (see `sparsecode_pl.analysis.loss`).
        truth: for data with a known answer, add "true features, greedy" and "true features, exact": the same rows coded
            with the true features as atoms, by the greedy coder and exactly. What the learnt dictionary costs shows
            against the first or the second, what the greedy coder costs between them. They count as controls.
        saes: trained sparse autoencoders, by what `sparsecode_pl.interchange.load_autoencoder` takes. Each is held
            beside the layers of its width and, if its files tell, its place: with its own encoder, and with greedy and
            exact codes on its decoder and the codes of the learnt dictionary, each at the same N0 and at the same
            explained variance as its own codes of the rows that are scored; and with matching pursuit of N0 steps,
            whose codes no penalty shrinks. They count as controls, and nothing of them is trained.
        evaluations: further evaluations to compute; their values become part of the records.
        jobs: fits that are made at a time, >= 1, each in a process with its share of the cores and, if there are any,
            one GPU. Within `joblib.parallel_config(backend="dask")` the workers of the Dask cluster make them. A fit
            whose process dies is lost, and no other.
        folder: the run folder gets a number in here. The workers of a cluster must see it, under the same path.
        resume: the folder of an interrupted run that was made with the same arguments. Its finished fits are kept, and
            the missing ones are made. Other settings are refused, except those of `trainer` and of the optimiser, which
            cannot be compared.
        trainer: makes the trainer of one fit from its module and its folder.
        settings: goes into `results.json`; the module's hyper-parameters and the options if None.

    Returns:
        One record for each data set, a mapping. Its attributes `folder`, `dictionary` and `fits` give what was learnt.

        - `data`; for layers and their controls `model` and `layer`; for controls `control_of`, the data's name.
        - `S1`, `L_norm`, `N0`, `L`, `explained_variance` and `num_samples` of the training rows, with the prefix
          `heldout_` those of the held-out rows, and with `unseen_` those of unseen tokens, as far as there are such
          rows (see `ActivationDataModule`). `intervals` has 95 % intervals by the same names.
        - For what is held beside a layer because of an autoencoder, `arm`: its name as "sae", whose codes they are as
          "role" ("own", "greedy", "exact", "pursuit" or "learnt"), and what they match the own codes in as "match"
          ("N0", "explained_variance" or None). `lam` is the penalty that makes the codes match; for the own codes and
          those of matching pursuit it is a tenth of their mean largest coefficient on the training rows. There is no
          `dictionary` in the folder.
        - For controls, the data's S1 over the control's: `S1_ratio`, `heldout_S1_ratio` and `unseen_S1_ratio`.
        - `lam`, the penalty of the scores, `train_lam`, that of training, `atoms_alive`, `num_atoms`, `rounds`,
          `seconds`. With `explained_variance`, each kind of rows is scored at a penalty of its own: `lam` is that of
          the training rows, and `heldout_lam` and `unseen_lam` are those of the others.
        - About the rows: `num_distinct`, how many are different; `num_copies`, how many are left out because they
          equal training rows; with a column of tokens `num_types`, `heldout_seen_share`, the share of the rows in
          held-out documents whose token was trained on, and `token_explained_variance` (see `token_identity`).
        - With `exact`, scores and ratios of the exact codes, such as `exact_S1` and `heldout_exact_S1_ratio`, and
          `coding_gap`, the relative excess of the objective of the coder's codes (see `CodingGap`).
        - With `loss`, of a language model `loss_recovered`, the share of the loss recovered that replacing the
          activations by their mean costs, `zero_loss_recovered`, the same against zero, `kl`, `cross_entropy` and
          `clean_cross_entropy`, in nats per token; of an encoder `output_cosine`. With `exact` too, the same of exact
          codes, such as `exact_loss_recovered`. `loss.json` in the fit's folder has all arms.
        - With known truth `half_active` (for data like the paper's), `oracle_S1`, `atom_recovery`, `matched_recovery`,
          `matched_recovery_chance`, `support_precision` and `support_recall`, of held-out rows if there are any (see
          `truth_scores`).
        - With several seeds the figures are means, `spread` has their standard deviations, and `atom_stability` says
          how alike the dictionaries are (see `with_stability`).
        - With several shares, `frontier`: for each, ascending, its `share` and the scores, ratios and intervals there.

    Raises:
        ValueError: an argument is out of its range, data, controls or module are wrong or do not fit together, or the
            run to be resumed was made with other settings.
        OSError: the folder cannot be written.
        MeasurementError: some data sets failed; the run folder holds what the others gave, and what was wrong.
    """
    check_arguments(measure, locals())
    plan = Plan.of(seeds, explained_variance, exact, tuple(evaluations), loss)
    plan.check(module)
    check_jobs(jobs)
    if settings is None:
        settings = {"model": dict(module.hparams), **plan.plain()}
    if resume is not None:
        check_resumable(resume, settings)
    subjects = prepare(module, data, controls, truth, saes)
    return list(measure_subjects(subjects, plan, jobs, Path(folder), resume, trainer, settings).records)


def measure_subjects(
    subjects: list[Subject],
    plan: Plan,
    jobs: int,
    folder: Path,
    resume: str | Path | None,
    trainer: TrainerFactory,
    settings: dict[str, Any],
) -> Results:
    """Fit what `prepare` has listed, and report; see `measure`."""
    if plan.loss:
        check_losses(subjects)
    settings = to_json({**settings, "subjects": [identity(subject) for subject in subjects]})
    run = _new_run(folder) if resume is None else check_resumable(resume, settings)
    folders = _folders(run, subjects, plan.seeds)
    fits: dict[tuple[int, int], Fit] = {
        place: fit for place, path in folders.items() if resume is not None and (fit := Fit.read(path)) is not None
    }
    missing = [place for place in folders if place not in fits]
    # The codes of autoencoders come last, for some are those of the dictionary that was learnt from the same rows, and
    # of these the own ones first, which the others are made to match.
    stages = [[place for place in missing if _stage(subjects[place[0]]) == stage] for stage in range(3)]
    records: dict[int, Record] = {}
    results = _results(run, subjects, plan, fits, records, settings)
    rank_zero_only(write_report)(results)
    failures: list[str] = []
    try:
        for place, outcome in _outcomes(stages, subjects, folders, plan, jobs, run, trainer, done=len(fits)):
            if isinstance(outcome, Failure):
                rank_zero_only(_write_trace)(folders[place], outcome.trace)
                outcome = Fit(subjects[place[0]].module.seed + place[1], folders[place], error=outcome.message)
            elif outcome.error is not None:
                rank_zero_only(_write_trace)(folders[place], outcome.error)
            if outcome.error is not None:
                rank_zero_warn(f"{subjects[place[0]].title} failed: {outcome.error}")
                failures.append(outcome.error)
            fits[place] = outcome
            results = _results(run, subjects, plan, fits, records, settings)
            rank_zero_only(write_report)(results)
        if plan.seeds > 1:
            results = from_rank_zero(partial(with_stability, results))
            rank_zero_only(write_report)(results)
        rank_zero_only(_finish)(results)
    except (KeyboardInterrupt, SystemExit):  # Lightning makes the second of the first
        rank_zero_info(f"interrupted after {len(fits)} of {len(folders)} fits; to make the others, resume {run}")
        raise
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        safe = sum(Fit.read(path) is not None for path in folders.values())
        raise OSError(
            error.errno,
            f"the run in {run} {what_failed(error)}: {safe} of {len(folders)} fits are safe there. To make the others, "
            f"{cure(error)} and resume the run",
        ) from error
    if failures:
        failed = sum(record.error is not None for record in results.records)
        raise MeasurementError(
            f"{failed} of {len(subjects)} data sets failed, the first with {failures[0]}. The results of the "
            f"others are in {run}, and what went wrong in the folder of each, in error.txt. To try the failed ones "
            f"again, resume the run"
        )
    return results


def _outcomes(
    stages: Sequence[Sequence[tuple[int, int]]],
    subjects: Sequence[Subject],
    folders: Mapping[tuple[int, int], Path],
    plan: Plan,
    jobs: int,
    run: Path,
    trainer: TrainerFactory,
    done: int,
) -> Iterator[tuple[tuple[int, int], Fit | Failure]]:
    """Make the fits of each stage, once those of the stage before are made; places and outcomes."""
    for stage in stages:
        # Another process may have counted the run folders after this one had made its own. It cannot ask before the
        # first fit, which is what starts the processes, or lets them meet; `fit_subject` therefore asks for itself.
        folders = from_rank_zero(partial(dict, folders))
        tasks = []
        for number, seed in stage:
            subject, folder = subjects[number], folders[number, seed]
            if subject.arm is None or subject.control_of is None:
                task = partial(fit_subject, subject, subject.module.seed + seed, folder, trainer, plan)
            else:
                learnt, own = folders[subject.control_of, 0], folders[_own_codes(subjects, subject), 0]
                task = partial(score_arm, subject, folder, learnt, own, trainer, plan)
            title = subject.title + (f", seed {seed}" if _seeds(subject, plan.seeds) > 1 else "")
            tasks.append(Job(title, partial(_fresh, folder, task)))
        for number, outcome in run_jobs(tasks, jobs, run, done) if tasks or stage is stages[0] else ():
            yield stage[number], outcome
        done += len(stage)


def _stage(subject: Subject) -> int:
    """After how many other stages a subject's fits can be made."""
    if subject.arm is None:
        return 0
    return 1 if subject.arm.match is None else 2


def _own_codes(subjects: Sequence[Subject], subject: Subject) -> int:
    """Number of the subject that has the own codes of the same autoencoder beside the same layer."""
    return next(
        number
        for number, other in enumerate(subjects)
        if other.arm is not None
        and subject.arm is not None
        and other.control_of == subject.control_of
        and (other.arm.name, other.arm.role) == (subject.arm.name, "own")
    )


def _seeds(subject: Subject, seeds: int) -> int:
    """How many fits a subject has: one where nothing is trained."""
    return seeds if subject.arm is None else 1


def _fresh(folder: Path, task: Any) -> Fit:
    """Make a fit, after removing what an interrupted one has left, unless it can be resumed."""
    if from_rank_zero(lambda: resumable(folder)) is None:
        rank_zero_only(shutil.rmtree)(folder, ignore_errors=True)
    fit: Fit = task()
    return fit


def _results(
    run: Path,
    subjects: list[Subject],
    plan: Plan,
    fits: dict[tuple[int, int], Fit],
    records: dict[int, Record],
    settings: dict[str, Any],
) -> Results:
    """The results with the records of the subjects all of whose fits are done.

    Records that are new are added to `records`: making them takes longer than writing them.
    """
    fitted = [
        number
        for number, subject in enumerate(subjects)
        if all((number, seed) in fits for seed in range(_seeds(subject, plan.seeds)))
    ]
    # A control waits for its data, without which its record would seem to belong to other data.
    done = [number for number in fitted if subjects[number].control_of in (None, *fitted)]
    for number in done:
        if number in records:
            continue
        subject = subjects[number]
        model, layer = (subject.place.model, subject.place.layer) if subject.place is not None else (None, None)
        source = None if subject.control_of is None else records[subject.control_of]
        each = tuple(fits[number, seed] for seed in range(_seeds(subject, plan.seeds)))
        arm = None if subject.arm is None else subject.arm.plain()
        record = Record(subject.label, each, model, layer, None if source is None else source.data, arm=arm)
        records[number] = with_ratios(record, source)
    return Results(run, tuple(records[number] for number in done), settings, complete=len(done) == len(subjects))


def _finish(results: Results) -> None:
    """Complete the cards, and show the table."""
    _write_cards(results.records)
    show_in_tensorboard(results.folder)
    print_table(results.records)
    rank_zero_info(f"Results: {results.folder}\nCurves:  tensorboard --logdir {results.folder}")


def _write_cards(records: Sequence[Record]) -> None:
    """Put the scores of its controls onto the card of each dictionary that was measured beside some."""
    for record, controls in _with_controls(records):
        for fit in record.fits:
            if controls and fit.error is None and fit.folder is not None:
                try:
                    dictionary = fit.dictionary
                except (OSError, ValueError) as error:  # all that was measured is written already
                    rank_zero_warn(f"{record.data}: the card of its dictionary lacks the controls: {error}")
                    continue
                dictionary.card = replace(
                    dictionary.card,
                    controls={one.data: one.scores for one in controls},
                    control_intervals={one.data: one.intervals for one in controls},
                )
                dictionary.save_pretrained(fit.folder / DICTIONARY)


def _with_controls(records: Sequence[Record]) -> Iterator[tuple[Record, list[Record]]]:
    """Each measured record with its controls, which follow it."""
    for number, record in enumerate(records):
        if record.control_of is None:
            controls = []
            for follower in records[number + 1 :]:
                if follower.control_of is None:
                    break
                if follower.error is None:
                    controls.append(follower)
            yield record, controls


def _write_trace(folder: Path, trace: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").write_text(trace)


# --- run folders -----------------------------------------------------------------------------------------------------


def identity(subject: Subject) -> dict[str, Any]:
    """What tells a subject from others when a run is resumed."""
    data = subject.data
    identity: dict[str, Any] = {"title": subject.title, "source": plain_attributes(data.source)}
    if subject.control_of is None:
        norm = f"{data.statistics.mean_norm:.5g}"
        names = ("batch_size", "batches_per_round", "val_split", "heldout_by", "unseen_by", "unseen_split", "remove")
        # What the user sets comes before what follows from it: the first difference is the one that is named.
        identity |= {name: getattr(data, name) for name in (*names, "seed", "stream")}
        identity |= {"rows": len(data.rows), "d_model": data.d_model, "mean_norm": norm}
    if subject.arm is not None:
        identity |= {"sae": subject.arm.sae, "sae_files": subject.arm.fingerprint}
    return identity


def _folders(run: Path, subjects: list[Subject], seeds: int) -> dict[tuple[int, int], Path]:
    """The folder of each fit, by number of the subject and of the initial dictionary."""
    digits = len(str(len(subjects) - 1))
    folders = {}
    for number, subject in enumerate(subjects):
        folder = run / f"{number:0{digits}}-{_slug(subject.title)}"
        own = _seeds(subject, seeds)
        for seed in range(own):
            folders[number, seed] = folder if own == 1 else folder / f"seed_{seed}"
    return folders


def _new_run(folder: Path) -> Path:
    """The next free numbered folder."""
    check_writable(folder)
    taken = [int(path.name[8:]) for path in folder.glob("version_*") if path.name[8:].isdigit()]
    run = (folder / f"version_{max(taken, default=-1) + 1}").resolve()  # other processes may have started elsewhere
    rank_zero_only(run.mkdir)()
    return run


def check_resumable(run: str | Path, settings: dict[str, Any]) -> Path:
    """Check that a run was made with these settings, as far as they are given.

    Returns:
        Its folder.

    Raises:
        FileNotFoundError: it is no run's.
        ValueError: it was made with other settings.
        OSError: it cannot be written.
    """
    cure = "give the folder of a run, such as lightning_logs/measure/version_0"
    try:
        there = (Path(run) / RESULTS).is_file()
    except OSError as error:  # such as a name that is too long
        raise OSError(f"resume is '{run}', which cannot be read ({error.strerror}): {cure}") from error
    if not there:
        raise FileNotFoundError(f"resume is '{run}', which holds no {RESULTS}: {cure}")
    stored = load_results(run)
    if stored.format < FORMAT:
        raise ValueError(f"the run in {run} is of an older format, which cannot be resumed: leave out resume")
    before = {**_OLDER, **stored.settings}
    for name, old, new in _differences({key: before.get(key) for key in settings}, to_json(settings)):
        raise ValueError(
            f"{name} is {new!r}, but the run in {run} was made with {old!r}: give the same, or leave out resume to "
            "start a new run"
        )
    check_writable(run)
    return stored.folder


def check_jobs(jobs: int) -> None:
    """Check how many fits are to be made at a time.

    Raises:
        ValueError: fewer than one, or joblib's backend is neither of processes nor Dask's.
    """
    check_arguments(check_jobs, locals())
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}: give at least 1")
    check_backend()


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Names of the settings that differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, other, f"{name}[{number}]")
    elif old != new:
        yield name, old, new


def check_writable(folder: str | Path) -> None:
    """Make a folder if need be and check that files can be written there.

    Raises:
        OSError: they cannot.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # has no name, so that nothing is left behind
            pass
    except OSError as error:
        raise OSError(f"output folder {folder} cannot be written ({error.strerror}): give another folder") from error


def _slug(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", label).strip("_")

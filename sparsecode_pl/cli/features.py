"""`sparsecode features`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from sparsecode_pl.analysis.features import Features, Which, find_features
from sparsecode_pl.analysis.pages import Subject, check_folder, write_pages
from sparsecode_pl.analysis.projector import write_projector
from sparsecode_pl.cli.lightning import SparseCodingParser
from sparsecode_pl.cli.run_again import find_run, subjects_again
from sparsecode_pl.cli.tokens import show_tokens
from sparsecode_pl.data import ROWS, ActivationDataModule, Vocabulary, data_again, import_plugins, score_name
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.interchange.neuronpedia import write_neuronpedia
from sparsecode_pl.measurement import Record, load_results
from sparsecode_pl.measurement.picture import picture_svg
from sparsecode_pl.measurement.run import check_writable
from sparsecode_pl.utilities.progress import titled

# What a card may say of the split of its rows.
_SPLIT = ("val_split", "unseen_split", "heldout_by", "unseen_by", "seed", "remove")


def parser() -> ArgumentParser:
    """The parser of the command."""
    made = SparseCodingParser(
        prog="sparsecode features",
        description="Look at the atoms of a dictionary: pages with the examples of each, or tables of some tokens.",
    )
    made.add_argument(
        "source",
        type=str,
        help="Folder of a run of `sparsecode measure` (or of several: the newest), a dictionary's folder or name on "
        "the hub, or a checkpoint.",
    )
    made.add_argument("--output", type=str, help="Folder of the pages; 'features' in that of the run by default.")
    made.add_subclass_arguments(ActivationDataModule, "data", required=False, help="The data, if it is not known.")
    made.add_argument("--layer", type=str, help="The one layer of a run that is looked at.")
    made.add_argument(
        "--controls",
        type=bool | list[str],
        default=True,
        help="Whether to show the controls of a run too, or the names of those to show.",
    )
    made.add_argument(
        "--rows",
        type=str,
        choices=list(get_args(Which)),
        default="heldout",
        help="Rows that are looked at: those that were not trained on, or all.",
    )
    made.add_argument("--examples", type=int, default=20, help="Examples of each atom's largest coefficients.")
    made.add_argument("--per_band", type=int, default=5, help="Examples from each of four bands of weaker ones.")
    made.add_argument("--context", type=int, default=10, help="Tokens of text on each side of an example.")
    made.add_argument("--exact_examples", type=int, default=3, help="Examples that get their exact coefficient too.")
    made.add_argument(
        "--token",
        type=str,
        nargs="+",
        help="Instead of pages, tables of these tokens over all rows: their strongest features, and what else these "
        "are active on.",
    )
    made.add_argument("--top", type=int, default=3, help="Features in the table of a token.")
    return made


def run(words: list[str]) -> None:
    """Write the pages of a run's dictionaries, or the tables of some tokens."""
    import_plugins()  # so that their short names are known
    made = parser()
    config = made.parse_args(words)
    try:
        _check(config)
        data = made.instantiate_classes(config).get("data")
        looked_at = _of_source(config, data)
        if config.token is not None:
            if len(looked_at) > 1:
                layers = ", ".join(str(each.record.layer) for each in looked_at if each.record is not None)
                raise ValueError(f"token is given, and the run has several dictionaries ({layers}): give one --layer")
            dictionary, rows = looked_at[0].dictionary.to(_device()), looked_at[0].data
            show_tokens(dictionary, rows, config.token, config.top, config.examples, Path(_output(config)))
        else:
            _write_pages(config, looked_at)
    except (OSError, TypeError, ValueError) as error:
        made.error(str(error), error)


def _check(config: Any) -> None:
    """Find what is wrong with the options before anything is loaded."""
    for name, least in (("examples", 1), ("per_band", 0), ("context", 0), ("exact_examples", 0), ("top", 1)):
        if config[name] < least:
            raise ValueError(f"{name} is {config[name]}: give at least {least}")
    output = Path(_output(config))
    check_folder(output)
    check_writable(output)


def _output(config: Any) -> str:
    """The folder that is written."""
    if config.output is not None:
        return str(config.output)
    run = find_run(Path(config.source))
    return str(run / "features") if run is not None else "features"


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class _LookedAt:
    """A dictionary and its rows.

    Attributes:
        name: as the pages call it.
        dictionary: the dictionary.
        data: its rows.
        record: its scores, if it is of a run.
        control_of: name of what it is a control of, if it is one.
    """

    name: str
    dictionary: Dictionary
    data: ActivationDataModule
    record: Record | None = None
    control_of: str | None = None

    def features(self, config: Any, vocabulary: Vocabulary | None) -> Features:
        """What there is to see of its atoms."""
        with titled(self.name):
            found = find_features(
                self.coded_at(config.rows).to(_device()),
                self.data,
                rows=config.rows,
                examples=config.examples,
                per_band=config.per_band,
                context=config.context,
                exact_examples=config.exact_examples,
                others=[] if self.record is None else [fit.dictionary for fit in self.record.fits[1:]],
                vocabulary=vocabulary,
            )
        self.data.release()
        if not found.has_text:
            rank_zero_info(f"{self.name}: its rows are of no text, so examples are numbers of rows")
        return found

    def coded_at(self, rows: Which) -> Dictionary:
        """The dictionary with the penalty that its scores of these rows are for.

        At a share of the variance each kind of rows has a penalty of its own: those of held-out rows are taken.
        """
        names = ["lam"] if rows == "all" or self.record is None else ["heldout_lam", "unseen_lam", "lam"]
        self.dictionary.lam = next(
            (self.record[name] for name in names if self.record is not None and name in self.record),
            self.dictionary.lam,
        )
        return self.dictionary

    @property
    def notes(self) -> tuple[str, ...]:
        """How its pages and its scores go together, where that needs saying."""
        if self.record is None:
            return ()
        own = {
            rows: self.record[score_name(kind, "lam")]
            for kind, rows in ROWS.items()
            if score_name(kind, "lam") in self.record
        }
        notes = []
        if len(own) > 1:
            each = ", ".join(f"{lam:.4g} of {rows}" for rows, lam in own.items())
            notes.append(f"Scores are at a share of the variance, each at a penalty of its own: {each}.")
        if len(self.record.fits) > 1:
            notes.append(
                f"Scores are means over {len(self.record.fits)} initial dictionaries; these are the first one's atoms."
            )
        return tuple(notes)

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """Its scores for each kind of rows, with their intervals; none without a record."""
        facts = []
        for kind, rows in ROWS.items():
            name = score_name(kind, "S1")
            if self.record is not None and name in self.record:
                low, high = self.record.intervals.get(name, (None, None))
                ends = "" if low is None else f" [{low:.3g}, {high:.3g}]"
                facts.append((f"S1, {rows}", f"{self.record[name]:.3g}{ends}"))
        return tuple(facts)


def _of_source(config: Any, data: ActivationDataModule | None) -> list[_LookedAt]:
    """The dictionaries that are looked at: those of a run, or a single one."""
    run = find_run(Path(config.source))
    if run is None:
        path = str(config.source)
        dictionary = Dictionary.from_checkpoint(path) if path.endswith(".ckpt") else Dictionary.from_pretrained(path)
        rows = _rows_of(dictionary, data)
        return [_LookedAt(rows.label, dictionary, rows)]
    controls = False if config.token is not None else config.controls
    records = subjects_again(load_results(run), data, config.layer, controls)
    several = sum(record.control_of is None for record, _ in records) > 1
    measured = {record.data for record, _ in records if record.control_of is None}
    found: list[_LookedAt] = []
    for record, subject in records:
        of = record.control_of
        alike = several or record.data in measured
        name = f"{of}, control {record.data}" if of is not None and alike else record.data
        found.append(_LookedAt(name, record.dictionary, subject.data, record, of))
    return found


def _rows_of(dictionary: Dictionary, data: ActivationDataModule | None) -> ActivationDataModule:
    """The rows that a dictionary is of: those given, or those that its card tells.

    Raises:
        ValueError: the card does not tell, or the rows given are of another layer.
    """
    card = dictionary.card
    if data is None:
        data = data_again(card.source, **{name: value for name, value in card.split.items() if name in _SPLIT})
        if not card.split:
            rank_zero_warn("the dictionary's card does not tell how its rows were split: they are split anew")
    if len(data.layers) > 1 and card.layer is not None:
        data = data.over(data.layer(card.layer))
    place = data.source.place
    if place is not None and card.layer is not None and (place.model, place.layer) != (card.model, card.layer):
        raise ValueError(
            f"the dictionary is of {card.model} layer {card.layer}, but the data is {place.model} layer {place.layer}: "
            "give the data that it was learnt from"
        )
    counts = {kind: len(index) for kind, index in data.row_sets.items()}
    if card.rows and counts != card.rows:
        rank_zero_warn(
            f"the dictionary was made with other rows ({card.rows}) than the data has ({counts}), so rows that are "
            "called held-out may have been trained on"
        )
    return data


def _write_pages(config: Any, looked_at: list[_LookedAt]) -> None:
    """Write the pages, and beside them what Neuronpedia and TensorBoard's projector take."""
    output, shown, measured = Path(_output(config)), [], []
    vocabulary = None
    for each in looked_at:
        if each.control_of is None:
            vocabulary = each.data.source.vocabulary
        found = each.features(config, vocabulary)
        shown.append(Subject(each.name, found, each.control_of, each.facts, each.notes))
        if each.control_of is None:
            measured.append((each, found))
    records = [each.record for each in looked_at if each.record is not None]
    page = write_pages(output, shown, f"Features of {shown[0].name}", picture_svg(records) if records else None)
    for number, (each, found) in enumerate(measured):
        place = each.data.source.place
        digits = re.findall(r"\d+", place.layer) if place is not None else []
        model, layer = (None if place is None else place.model), int(digits[0]) if digits else 0
        write_neuronpedia(output / "neuronpedia" / str(number), found, model, layer)
    write_projector(output / "projector", {each.name: (each.dictionary.atoms, found) for each, found in measured})
    rank_zero_info(f"Features:  {page.resolve()}\nProjector: tensorboard --logdir {output / 'projector'}")

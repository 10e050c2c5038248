"""What a measurement gives: records of scores, read from and written to a run folder."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.measurement.intervals import Replicates, replicates_of
from sparsecode_pl.utilities.bootstrap import Array, Interval
from sparsecode_pl.utilities.files import checksum_of, write_files
from sparsecode_pl.utilities.plain import check_type, from_json, parse_json, to_json
from sparsecode_pl.utilities.versions import versions

#: Number of the format of `results.json` and `fit.json`. Files without one are of format 1.
FORMAT = 3

RESULTS, TABLE, FIT, DICTIONARY = "results.json", "results.csv", "fit.json", "dictionary"
# The sums that intervals come from, beside `FIT`.
_SUMS = "sums.safetensors"

# What `results.json` and `fit.json` must hold; further entries are allowed. JSON has null for NaN.
_Scores = dict[str, float | None]
_Intervals = dict[str, tuple[float | None, float | None]]


class _LevelContent(TypedDict):
    share: float
    scores: _Scores


class _FitContent(TypedDict):
    seed: int
    folder: NotRequired[str]
    scores: NotRequired[_Scores]
    training_penalty_scores: NotRequired[_Scores]
    levels: NotRequired[list[_LevelContent]]
    error: NotRequired[str]


class _ArmContent(TypedDict):
    sae: str
    role: str
    match: str | None


class _Names(TypedDict):
    data: str
    model: NotRequired[str | None]
    layer: NotRequired[str | None]
    control_of: NotRequired[str | None]
    arm: NotRequired[_ArmContent]


class _RecordContent(_Names):
    fits: list[_FitContent]
    intervals: NotRequired[_Intervals]
    frontier: NotRequired[list[dict[str, Any]]]


class _ResultsContent(TypedDict):
    results: list[dict[str, Any]]
    settings: dict[str, Any]
    versions: dict[str, str]
    complete: NotRequired[bool]


@dataclass(frozen=True)
class Level:
    """The scores of a fit where its codes explain one of several shares of the variance.

    Attributes:
        share: of the variance of the rows that are scored.
        scores: by name, with the penalties as "lam", "heldout_lam" and "unseen_lam".
        sums: the sums by bucket that they are ratios of, see `replicates_of`.
    """

    share: float
    scores: dict[str, float] = field(default_factory=dict)
    sums: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Fit:
    """One dictionary, learnt from one initial dictionary, and its scores.

    Attributes:
        seed: of the initial dictionary.
        folder: where its dictionary, checkpoints and curves are.
        scores: by name; see `measure`.
        training_penalty_scores: those at the penalty of training, where `scores` are at another one.
        error: what went wrong, if anything did.
        sums: the sums by bucket that `scores` are ratios of, see `replicates_of`; none if they were not taken, or if
            the fit was read from `results.json`.
        levels: the scores at each of several shares of the variance.
    """

    seed: int
    folder: Path | None = None
    scores: dict[str, float] = field(default_factory=dict)
    training_penalty_scores: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    sums: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)
    levels: tuple[Level, ...] = ()

    def at(self, share: float) -> "Fit | None":
        """The fit with the scores at one of several shares; None if these do not have it."""
        return self._at.get(share)

    @cached_property
    def _at(self) -> dict[float, "Fit"]:
        return {level.share: replace(self, scores=level.scores, sums=level.sums, levels=()) for level in self.levels}

    @cached_property
    def replicates(self) -> dict[str, Replicates]:
        """Replicates of the scores, by their names."""
        return replicates_of(self.sums)

    @property
    def intervals(self) -> dict[str, Interval]:
        """The 95 % intervals of the scores for which there are sums, in the order of the scores."""
        return {name: self.replicates[name].interval for name in self.scores if name in self.replicates}

    @property
    def dictionary(self) -> Dictionary:
        """The dictionary, read from the folder.

        Raises:
            FileNotFoundError: it is not there.
        """
        if self.folder is None:
            raise FileNotFoundError("this fit has no folder, and so no dictionary: its results are of an older format")
        return Dictionary.from_pretrained(self.folder / DICTIONARY)

    def write(self) -> None:
        """Write the sums, and `fit.json`, which says that the fit is done."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            content = {"format": FORMAT, **self.plain()}
            sums = self.sums | {
                f"{level.share}/{name}": each for level in self.levels for name, each in level.sums.items()
            }
            files = {}
            if sums:
                files[self.folder / _SUMS] = save(sums)
                content["sums"] = {"checksum": checksum_of(files[self.folder / _SUMS])}
            write_files(files | {self.folder / FIT: json.dumps(content, indent=2, allow_nan=False).encode()})

    def plain(self) -> dict[str, Any]:
        """The fit without its folder and its sums, as JSON can hold it."""
        content: dict[str, Any] = {"seed": self.seed, "scores": to_json(self.scores)}
        if self.training_penalty_scores:
            content["training_penalty_scores"] = to_json(self.training_penalty_scores)
        if self.levels:
            content["levels"] = [{"share": level.share, "scores": to_json(level.scores)} for level in self.levels]
        if self.error is not None:
            content["error"] = self.error
        return content

    @classmethod
    def from_plain(
        cls, content: Mapping[str, Any], folder: Path | None, sums: Mapping[str, Array] | None = None
    ) -> "Fit":
        """A fit from what `plain` gave, and from its sums if they are at hand."""
        scores, training = (from_json(content.get(name, {})) for name in ("scores", "training_penalty_scores"))
        own: dict[str, dict[str, Array]] = {}  # by level; those of `scores` have no slash
        for name, each in (sums or {}).items():
            level, _, kind = name.rpartition("/")
            own.setdefault(level, {})[kind] = each
        levels = tuple(
            Level(level["share"], from_json(level["scores"]), own.get(str(level["share"]), {}))
            for level in content.get("levels", ())
        )
        return cls(content["seed"], folder, scores, training, content.get("error"), own.get("", {}), levels)

    @classmethod
    def read(cls, folder: Path) -> "Fit | None":
        """The finished fit of a folder; None if it is not finished or cannot be read."""
        try:
            content = parse_json((folder / FIT).read_bytes())
            check_type("", content, _FitContent)
            if content["format"] != FORMAT:
                return None
            written = (folder / _SUMS).read_bytes() if (folder / _SUMS).is_file() else b""
            if "sums" in content and content["sums"]["checksum"] != checksum_of(written):
                return None
            return cls.from_plain(content, folder, load(written) if written else {})
        except (OSError, ValueError, TypeError, KeyError, SafetensorError):
            return None


@dataclass(frozen=True)
class Record(Mapping[str, Any]):
    """The scores of one data set: a mapping from their names, see `measure`, to numbers.

    With several fits the numbers are means over them, and `record["spread"]` holds their standard deviations.
    `record["intervals"]` holds the 95 % intervals of the scores, if sums for them were taken.

    Attributes:
        data: the data set's name.
        fits: one for each initial dictionary.
        model: the model that the activations are from, if any.
        layer: its layer, if any.
        control_of: name of the data that this is a control of, if it is one.
        ratios: of a control, the data's score over its own, by names such as "S1_ratio".
        stored_spread: the spread that was read from a file without the single fits.
        intervals: lower and upper end for each score that has an interval, also for ratios. An interval says how
            much the score, the mean over the fits, varies with the documents or rows that are scored; the dictionaries
            are fixed.
        frontier: where several shares of the variance were asked for, the `share` and, as in the record itself, all
            scores, ratios and intervals there, by ascending share.
        stability: of several fits, how alike their dictionaries are; see `with_stability`.
        arm: of codes that are scored because of a trained autoencoder, its name as "sae", whose codes they are as
            "role", and what is the same as for its own codes as "match"; see `Arm.plain`.
    """

    data: str
    fits: tuple[Fit, ...]
    model: str | None = None
    layer: str | None = None
    control_of: str | None = None
    ratios: dict[str, float] = field(default_factory=dict)
    stored_spread: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)
    frontier: tuple[dict[str, Any], ...] = ()
    stability: dict[str, float] = field(default_factory=dict)
    arm: dict[str, str | None] | None = None

    @property
    def sae(self) -> str | None:
        """Name of the trained autoencoder because of which these codes are scored, if there is one."""
        return None if self.arm is None else self.arm["sae"]

    @property
    def folder(self) -> Path:
        """The folder of its first fit."""
        if self.fits[0].folder is None:
            raise FileNotFoundError(f"the record of {self.data} has no folder: it was read from an older format")
        return self.fits[0].folder

    @property
    def dictionary(self) -> Dictionary:
        """The dictionary of its first fit."""
        return self.fits[0].dictionary

    @property
    def error(self) -> str | None:
        """What went wrong with one of its fits, if anything did."""
        return next((fit.error for fit in self.fits if fit.error is not None), None)

    @cached_property
    def scores(self) -> dict[str, float]:
        """Scores by name, means where there are several fits; none if a fit failed.

        A score that some fit lacks, because its rows do not reach the share of the variance, is left out.
        """
        return {
            name: float(np.mean(each)) if name in self.spread and len(each) > 1 else each[0]
            for name, each in self._values.items()
        }

    @cached_property
    def spread(self) -> dict[str, float]:
        """Standard deviations of the scores that differ between fits."""
        if len(self.fits) == 1 or self.error is not None:
            return self.stored_spread
        return {
            name: float(np.std(each, ddof=1))
            for name, each in self._values.items()
            if any(each[0] != one for one in each)
        }

    @property
    def _values(self) -> dict[str, list[float]]:
        """The values of each score in all fits; none if a fit failed."""
        if self.error is not None:
            return {}
        first, *others = (fit.scores for fit in self.fits)
        return {
            name: [value, *(other[name] for other in others)]
            for name, value in first.items()
            if all(name in other for other in others)
        }

    @cached_property
    def _entries(self) -> dict[str, Any]:
        names = {"data": self.data, "model": self.model, "layer": self.layer, "control_of": self.control_of}
        entries: dict[str, Any] = {name: value for name, value in names.items() if value is not None}
        if self.arm is not None:
            entries["arm"] = self.arm
        entries |= self.scores | self.ratios | self.stability
        if self.stored_spread or (len(self.fits) > 1 and self.error is None):
            entries["spread"] = self.spread
        if self.intervals:
            entries["intervals"] = self.intervals
        if self.frontier:
            entries["frontier"] = list(self.frontier)
        if self.error is not None:
            entries["error"] = self.error
        return entries

    def __getitem__(self, name: str) -> Any:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def plain(self, run: Path) -> dict[str, Any]:
        """The record as JSON can hold it, with the folders of its fits relative to that of the run."""
        fits = [
            ({} if fit.folder is None else {"folder": fit.folder.relative_to(run).as_posix()}) | fit.plain()
            for fit in self.fits
        ]
        return {**to_json(self._entries), "fits": fits}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any], run: Path) -> "Record":
        """A record from what `plain` gave."""
        check_type("a record", content, _RecordContent)
        fits = []
        if not content["fits"]:
            raise ValueError(f"the record of {content['data']} has no fits")
        for fit in content["fits"]:
            folder = (run / fit["folder"]).resolve() if "folder" in fit else None
            if folder is not None and not folder.is_relative_to(run):
                raise ValueError(f"a fit's folder is {fit['folder']!r}, outside of the run")
            fits.append(Fit.from_plain(fit, folder))
        model, layer, control_of = (content.get(name) for name in ("model", "layer", "control_of"))
        intervals = {name: _interval(ends) for name, ends in content.get("intervals", {}).items()}
        for level in content.get("frontier", ()):
            check_type("a level's intervals", level.get("intervals", {}), _Intervals)
            check_type("a level's spread", level.get("spread", {}), _Scores)
            scores = {name: value for name, value in level.items() if name not in ("intervals", "spread")}
            check_type("a level's scores", scores, _Scores)
            check_type("a level's share", level.get("share"), float)
        frontier = tuple(
            from_json({name: value for name, value in level.items() if name != "intervals"})
            | {"intervals": {name: _interval(ends) for name, ends in level.get("intervals", {}).items()}}
            for level in content.get("frontier", ())
        )
        ratios = _ratios(content)
        names = (content["data"], tuple(fits), model, layer, control_of)
        stability = {name: value for name, value in content.items() if name.startswith("atom_stability")}
        check_type("a record's stability", stability, _Scores)
        stability = from_json(stability)
        further = {"frontier": frontier, "stability": stability, "arm": content.get("arm")}
        return cls(*names, ratios, intervals=intervals, **further)

    @classmethod
    def from_format_1(cls, content: Mapping[str, Any]) -> "Record":
        """A record from an entry of a `results.json` without a format number: scores alone, without dictionaries."""
        check_type("a record", content, _Names)
        model, layer, control_of = (content.get(name) for name in ("model", "layer", "control_of"))
        ratios = _ratios(content)
        left = {"data", "spread", "error", "model", "layer", "control_of", *ratios}
        scores = {name: value for name, value in content.items() if name not in left}
        spread, error = content.get("spread", {}), content.get("error")
        check_type("a record's scores", scores, _Scores)
        check_type("a record's spread", spread, _Scores)
        check_type("a record's error", error, str | None)
        fit = Fit(0, None, from_json(scores), error=error)
        return cls(content["data"], (fit,), model, layer, control_of, ratios, from_json(spread))


@dataclass(frozen=True)
class Results:
    """A run: its records and what it was made with.

    Attributes:
        folder: the run folder.
        records: one for each data set, each measured one before its controls.
        settings: the run's configuration, of plain types.
        versions: of the packages that made it.
        complete: whether all fits are done.
        format: of the file that they were read from.
    """

    folder: Path
    records: tuple[Record, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)
    complete: bool = True
    format: int = FORMAT

    def write(self) -> None:
        """Write `results.json` and `results.csv`; NaN becomes null, or an empty cell.

        Files of an older format, which lack something, are left as they are.
        """
        if self.format < FORMAT:
            return
        content = {
            "format": FORMAT,
            "complete": self.complete,
            "versions": self.versions,
            "settings": to_json(self.settings),
            "results": [record.plain(self.folder) for record in self.records],
        }
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        write_files({self.folder / RESULTS: text.encode(), self.folder / TABLE: self._table().encode()})

    def _table(self) -> str:
        rows = []
        for record in self.records:
            row = {name: value for name, value in record.items() if name not in ("spread", "intervals", "frontier")}
            row |= row.pop("arm", {})
            row |= {f"{name}_spread": value for name, value in record.spread.items()}
            for name, ends in record.intervals.items():
                row |= {f"{name}_low": ends[0], f"{name}_high": ends[1]}
            rows.append(to_json(row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def load_results(path: str | Path) -> Results:
    """Read a run folder back: its records, with their dictionaries, and its settings.

    Args:
        path: the run folder, or its `results.json`.

    Raises:
        FileNotFoundError: there is no `results.json`.
        ValueError: it is damaged, or of a newer format.
    """
    path = Path(path).expanduser()
    file = path if path.suffix == ".json" else path / RESULTS
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is not there: give the folder of a run, such as lightning_logs/measure/version_0"
        )
    run = file.parent.resolve()
    try:
        content = parse_json(file.read_bytes())
        number = content.get("format", 1)
        check_type("its format", number, int)
        if number > FORMAT:
            raise ValueError(f"it is of format {number}, and this version reads up to {FORMAT}: update sparsecode-pl")
        check_type("", content, _ResultsContent)
        read = Record.from_format_1 if number == 1 else lambda entry: Record.from_plain(entry, run)
        records = tuple(read(entry) for entry in content["results"])
        return Results(run, records, content["settings"], content["versions"], content.get("complete", True), number)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{file} cannot be read as the results of a run: {reason}") from error


def _ratios(content: Mapping[str, Any]) -> dict[str, float]:
    found = {name: value for name, value in content.items() if name.endswith("_ratio")}
    check_type("a record's ratios", found, _Scores)
    ratios: dict[str, float] = from_json(found)
    return ratios


def _interval(ends: Sequence[float | None]) -> Interval:
    low, high = ends
    return from_json(low), from_json(high)

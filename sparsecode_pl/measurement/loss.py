"""What a fit's dictionary costs the model, as scores of the fit and as a file beside it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sparsecode_pl.analysis.loss import CLEAN, LossSums, check_loss, codec_loss, heldout_documents, measured_by
from sparsecode_pl.codec import Codec
from sparsecode_pl.data import ActivationDataModule
from sparsecode_pl.utilities.bootstrap import Array
from sparsecode_pl.utilities.files import write_file
from sparsecode_pl.utilities.plain import from_json, parse_json
from sparsecode_pl.utilities.ranks import rank

if TYPE_CHECKING:
    from sparsecode_pl.measurement.subjects import Subject

#: The file in a fit's folder.
LOSS = "loss.json"
#: The name of the sums that the scores come from, behind the prefix that the scores have, such as "exact_".
LOSS_SUMS = "loss_sums"
#: The arm of exact codes.
EXACT = "exact codes"

# The arms whose sums a fit keeps; the second is of the codes that the scores are of.
_KEPT = (CLEAN, "codes", "mean", "zero")
# What a record calls the figures of an arm.
_NAMES = {
    "recovered": "loss_recovered",
    "zero_recovered": "zero_loss_recovered",
    "kl": "kl",
    "cross_entropy": "cross_entropy",
    "cosine": "output_cosine",
}
_OF_CAUSAL = ("recovered", "zero_recovered", "kl", "cross_entropy")
_CLEAN = "clean_cross_entropy"
#: The names of the scores in records.
LOSS_SCORES = (*_NAMES.values(), *(f"exact_{name}" for name in _NAMES.values()), _CLEAN)

T = TypeVar("T")


def check_losses(subjects: Sequence["Subject"]) -> None:
    """Find out, before the first fit, whether the model behind every measured layer can be run again.

    Raises:
        ValueError: there is none, or it lacks something.
        OSError: it cannot be read.
    """
    checked: set[str] = set()
    for subject in subjects:
        if subject.control_of is None:
            source = subject.data.source
            model = None if source.place is None else source.place.model
            if model not in checked or source.rerun is None:
                check_loss(source)
            if model is not None:
                checked.add(model)
            heldout_documents(subject.data)
            source.release()


def fit_loss(
    codec: Codec,
    data: ActivationDataModule,
    folder: Path,
    *,
    exact: Codec | None = None,
    controls: bool = False,
    before: Array | None = None,
) -> tuple[dict[str, float], dict[str, Array]]:
    """Run the model with a codec's reconstructions, and write `loss.json`. The processes share the documents.

    Args:
        codec: a dictionary or an autoencoder, with the penalty that it is to be used at.
        data: the rows that it was learnt from.
        folder: of the fit.
        exact: the same with exact codes, to be run too.
        controls: whether to run a random dictionary and principal components too.
        before: the sums that this gave for another codec and the same data, from which mean and zero are taken.

    Returns:
        The scores by the names of a record, and the sums that they come from.
    """
    others = {} if exact is None else {EXACT: exact}
    known = None
    if before is not None:
        found = LossSums.unstack(before, _KEPT)
        known = LossSums(found.kind, found.tokens, {name: found.arms[name] for name in ("mean", "zero")})
    report = codec_loss(codec, data, others=others, controls=controls, known=known)
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / LOSS, json.dumps(report.plain(), indent=2, allow_nan=False).encode())
    scores: dict[str, float] = {}
    sums: dict[str, Array] = {}
    arms = {"": "dictionary"} | ({} if exact is None else {"exact_": EXACT})
    for prefix, arm in arms.items():
        scores |= _scores(report.arms[arm], report.arms[CLEAN], prefix)
        sums[prefix + LOSS_SUMS] = report.sums.stack([CLEAN, arm, "mean", "zero"])
    return scores, sums


def loss_figures(sums: Array, prefix: str) -> dict[str, Array]:
    """The scores that sums tell of, by the names of a record, for each bucket or replicate, (buckets,).

    Args:
        sums: what `fit_loss` gave, (buckets, K).
        prefix: of the scores' names, "" or "exact_".
    """
    figures = measured_by(LossSums.unstack(sums, _KEPT))
    return _scores(figures["codes"], figures[CLEAN], prefix)


def read_loss(folder: Path) -> dict[str, Any] | None:
    """The content of a fit's `loss.json`, with NaN in place of null; None if there is none that can be read."""
    try:
        content: dict[str, Any] = from_json(parse_json((folder / LOSS).read_bytes()))
    except (OSError, ValueError):
        return None
    return content if content.keys() >= {"kind", "documents", "tokens", "heldout", "arms", "intervals"} else None


def _scores(figures: Mapping[str, T], clean: Mapping[str, T], prefix: str) -> dict[str, T]:
    if "cosine" in figures:
        return {prefix + _NAMES["cosine"]: figures["cosine"]}
    found = {prefix + _NAMES[name]: figures[name] for name in _OF_CAUSAL}
    return found | ({} if prefix else {_CLEAN: clean["cross_entropy"]})

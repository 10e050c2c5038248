"""Trained autoencoders beside the data that they are of: own codes, and other codes at the same N0 or variance.

Nothing is trained here. What an autoencoder's encoder costs shows between its own codes and others on its decoder, the
amortisation gap (arXiv 2411.13117). Greedy and exact codes are shrunk by their penalty, which an encoder's are not, and
that costs them variance at a given N0. Matching pursuit with as many steps is not shrunk. What the dictionary costs
shows between greedy codes on the decoder and those of the learnt dictionary.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from torch import Tensor

from sparsecode_pl.codec import Codec
from sparsecode_pl.coding import Coder, GreedyCoder, LassoCoder, MatchingPursuitCoder
from sparsecode_pl.data import BUCKETS, ActivationDataModule, score_name
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.interchange import Autoencoder, load_autoencoder
from sparsecode_pl.interchange.autoencoder import RATIO
from sparsecode_pl.interchange.hooks import is_other_layer, is_other_model
from sparsecode_pl.measurement.counts import score_at_count
from sparsecode_pl.measurement.exact import ExactCodes
from sparsecode_pl.measurement.intervals import take_sums
from sparsecode_pl.measurement.loss import fit_loss
from sparsecode_pl.measurement.penalty import ShareNotReachedError
from sparsecode_pl.measurement.plan import Plan
from sparsecode_pl.measurement.record import DICTIONARY, Fit
from sparsecode_pl.measurement.shares import score_at_shares, score_rows
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.scoring import AtomUse, LargestCoefficient, Scores
from sparsecode_pl.utilities.bootstrap import Array

if TYPE_CHECKING:
    from sparsecode_pl.measurement.subjects import Layer, Subject

#: What codes are compared at.
Match = Literal["N0", "explained_variance"]
#: Whose codes they are.
Role = Literal["own", "greedy", "exact", "pursuit", "learnt"]

_AT: dict[Match, str] = {"N0": "N0", "explained_variance": "expl. var."}
_ROLES: dict[Match, tuple[Role, ...]] = {
    "N0": ("greedy", "exact", "pursuit", "learnt"),
    "explained_variance": ("greedy", "exact", "learnt"),
}
_CODERS: dict[str, Coder] = {"greedy": GreedyCoder(), "exact": LassoCoder()}


@dataclass(frozen=True)
class Arm:
    """Codes of a layer's rows that are held beside the layer because of an autoencoder.

    Attributes:
        sae: what the autoencoder was given as, for `load_autoencoder`.
        name: what tables call it.
        role: "own": its own encoder; "greedy" or "exact": such codes on its decoder; "pursuit": those of matching
            pursuit on it, with N0 steps; "learnt": the codes of the layer's dictionary.
        match: what is made the same as that of its own codes; None for these.
        fingerprint: of its decoder, which tells it from another one of the same name.
    """

    sae: str
    name: str
    role: Role
    match: Match | None = None
    fingerprint: str = ""

    @property
    def label(self) -> str:
        """Its name in tables."""
        if self.match is None:
            return f"{self.name}, own encoder"
        if self.role == "learnt":
            return f"learnt dictionary, {_AT[self.match]} of {self.name}"
        return f"{self.name}, {self.role}, same {_AT[self.match]}"


def arms_of(saes: Sequence[str | Path], layers: Sequence["Layer"]) -> list[list[Arm]]:
    """The arms that are held beside each layer: those of the autoencoders of its width and, if known, its place.

    Args:
        saes: what they are given as.
        layers: the layers of the data.

    Returns:
        For each layer, its arms.

    Raises:
        FileNotFoundError: there is no such autoencoder.
        ImportError: one is of SAELens, and that is not installed.
        ValueError: one cannot be read, or fits no layer.
        OSError: the hub cannot be reached.
    """
    found: list[list[Arm]] = [[] for _ in layers]
    names: list[str] = []
    for sae in map(str, saes):
        autoencoder = load_autoencoder(sae)
        short = _short(sae)
        names.append(short)
        name = short if names.count(short) == 1 else f"{short} ({names.count(short)})"
        fitting = _fitting(autoencoder, sae, layers)
        mark = _fingerprint(autoencoder)
        for number in fitting:
            found[number].append(Arm(sae, name, "own", fingerprint=mark))
            for match in _AT:
                found[number] += [Arm(sae, name, role, match, mark) for role in _ROLES[match]]
    return found


def _fitting(autoencoder: Autoencoder, sae: str, layers: Sequence["Layer"]) -> list[int]:
    """Numbers of the layers that an autoencoder can be of."""
    origin, hook = autoencoder.origin, autoencoder.origin.hook
    wide = [number for number, layer in enumerate(layers) if layer.data.d_model == autoencoder.d_model]
    if not wide:
        widths = ", ".join(str(width) for width in sorted({layer.data.d_model for layer in layers}))
        raise ValueError(
            f"sae is {sae!r}, whose width is {autoencoder.d_model}, and the data have width {widths}: give data of the "
            "layer that it was trained on"
        )
    places = {number: layers[number].place for number in wide}
    fitting = [
        number
        for number, place in places.items()
        if hook is None or place is None or not is_other_layer(place.layer, hook)
    ]
    if not fitting:
        names = ", ".join(place.layer for place in places.values() if place is not None)
        raise ValueError(
            f"sae is {sae!r}, which is of {hook}, and the data are of layer {names}: give data of its layer"
        )
    for number in fitting:
        place = places[number]
        if place is not None and origin.model is not None and is_other_model(place.model, origin.model):
            rank_zero_warn(
                f"the autoencoder {sae} says that it is of {origin.model}, and the data are of {place.model}"
            )
            break
    return fitting


def _short(sae: str) -> str:
    return sae if ":" in sae else Path(sae).name or sae


def _fingerprint(autoencoder: Autoencoder) -> str:
    found = hashlib.sha256()
    for tensor in (autoencoder.atoms, autoencoder.norms, autoencoder.bias):
        found.update(tensor.cpu().numpy().data)
    return found.hexdigest()[:16]


@lru_cache(maxsize=1)
def _load(sae: str, fingerprint: str) -> Autoencoder:
    """The autoencoder, kept for the arms that follow.

    Raises:
        ValueError: its files have changed meanwhile.
    """
    autoencoder = load_autoencoder(sae)
    if _fingerprint(autoencoder) != fingerprint:
        raise ValueError(f"sae is {sae!r}, whose files have changed since the run began: start a new run")
    return autoencoder


def score_arm(
    subject: "Subject",
    folder: Path,
    learnt: Path,
    make_trainer: Callable[[SparseCodingModule, Path], Trainer],
    plan: Plan,
) -> Fit:
    """Score the codes of an arm, and write the scores to a folder.

    A kind of rows on which the arm cannot be made to match is left out, with a warning.

    Args:
        subject: what is scored, with an arm.
        folder: of this fit.
        learnt: folder of the fit of the layer.
        make_trainer: makes the trainer, of which only the device is used.
        plan: further evaluations, and whether to run the model; its shares of the variance are not for arms.
    """
    try:
        return _score(subject, folder, learnt, make_trainer, plan)
    finally:
        subject.data.release()


def _score(
    subject: "Subject",
    folder: Path,
    learnt: Path,
    make_trainer: Callable[[SparseCodingModule, Path], Trainer],
    plan: Plan,
) -> Fit:
    start = time.perf_counter()
    arm, data = subject.arm, subject.data
    if arm is None:
        raise ValueError(f"{subject.title} is no autoencoder's")
    data.setup("fit")
    device = make_trainer(subject.module, folder).strategy.root_device
    own = _load(arm.sae, arm.fingerprint).to(device)
    own.centre = data.statistics.mean.to(own.atoms)
    own.lam = _own_penalty(own, data, arm)
    targets = {} if arm.match is None else {kind: _own_score(own, data, kind, arm.match) for kind in data.row_sets}
    codec = _codec(arm, own, learnt, device, targets.get("train", 1.0))
    scores: dict[str, float] = {}
    sums: dict[str, Array] = {}
    alive: Tensor | None = None
    for kind in data.row_sets:
        try:
            lam, values = _at(codec, data, kind, None if arm.role == "pursuit" else arm.match, targets.get(kind))
        except ShareNotReachedError as reason:
            rank_zero_warn(f"{subject.title}: {reason}. The scores of these rows are left out")
            continue
        if kind == "train":
            alive = values["atom_activity"]
        further = [each for each in plan.evaluations if not isinstance(each, ExactCodes)]
        if further:
            codec.lam = lam  # type: ignore[misc]  # all codecs here let it be set
            values |= score_rows(codec, data, kind, further)
        sums |= take_sums(values, kind)
        numbers = {name: float(value) for name, value in values.items() if value.numel() == 1}
        scores |= {score_name(kind, name): value for name, value in (numbers | {"lam": lam}).items()}
    kind = "heldout" if "heldout_lam" in scores else "train"
    if plan.loss and score_name(kind, "lam") in scores:
        codec.lam = scores[score_name(kind, "lam")]  # type: ignore[misc]
        lost, loss_sums = fit_loss(codec, data, folder)
        scores, sums = scores | lost, sums | loss_sums
    scores |= {score_name(kind, "num_samples"): len(index) for kind, index in data.row_sets.items()}
    scores |= {"num_atoms": codec.num_atoms, "seconds": time.perf_counter() - start}
    if alive is not None:
        scores["atoms_alive"] = int((alive > 0).sum())
    fit = Fit(subject.module.seed, folder, scores, sums=sums)
    rank_zero_only(fit.write)()
    return fit


def _own_penalty(own: Autoencoder, data: ActivationDataModule, arm: Arm) -> float:
    """A tenth of the mean largest coefficient of the own codes of the training rows."""
    largest = float(score_rows(own, data, "train", [LargestCoefficient()])["mean_max"])
    if not largest > 0:
        raise ValueError(f"sae is {arm.sae!r}, and all its own codes of the training rows are zero: give another one")
    return RATIO * largest


def _own_score(own: Autoencoder, data: ActivationDataModule, kind: str, name: Match) -> float:
    return float(score_rows(own, data, kind, [Scores()])[name])


def _codec(arm: Arm, own: Autoencoder, learnt: Path, device: torch.device, count: float) -> Codec:
    """What codes the rows of an arm; `count` is the number of steps of matching pursuit."""
    if arm.role == "learnt":
        return Dictionary.from_pretrained(learnt / DICTIONARY).to(device)
    if arm.role == "pursuit":
        return own.with_coder(MatchingPursuitCoder(min(max(1, round(count)), own.num_atoms)))
    return own if arm.role == "own" else own.with_coder(_CODERS[arm.role])


def _at(
    codec: Codec, data: ActivationDataModule, kind: str, match: Match | None, target: float | None
) -> tuple[float, dict[str, Tensor]]:
    """Penalty and scores of rows of a kind where the codes match, with their sums and the use of atoms.

    Raises:
        ShareNotReachedError: they match at no penalty.
    """
    if match is None or target is None:
        return codec.lam, score_rows(codec, data, kind, [Scores(buckets=BUCKETS), AtomUse()])
    if match == "N0":
        return score_at_count(codec, data, kind, target)
    if not 0 < target < 1:
        raise ShareNotReachedError(
            f"the own codes explain {target:.3f} of the variance, which no penalty is sought for"
        )
    found = score_at_shares(codec, data, kind, [target])
    if target not in found.values:
        raise ShareNotReachedError(found.missed[target])
    use = {} if found.use is None else {"atom_activity": found.use}
    return found.lam[target], found.values[target] | use

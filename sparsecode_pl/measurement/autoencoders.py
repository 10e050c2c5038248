"""Trained autoencoders beside the data that they are of: own codes, and other codes at the same N0 or variance.

Nothing is trained here. What an autoencoder's encoder costs shows between its own codes and others on its decoder, the
amortisation gap (arXiv 2411.13117). Greedy and exact codes are shrunk by their penalty, which an encoder's are not, and
that costs them variance at a given N0. Matching pursuit with as many steps is not shrunk. What the dictionary costs
shows between greedy codes on the decoder and those of the learnt dictionary.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from lightning import Trainer
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from torch import Tensor

from sparsecode_pl.codec import Codec
from sparsecode_pl.coding import Coder, GreedyCoder, LassoCoder, MatchingPursuitCoder
from sparsecode_pl.data import BUCKETS, ROWS, ActivationDataModule, score_name
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.interchange import Autoencoder, load_autoencoder
from sparsecode_pl.interchange.autoencoder import RATIO, Origin
from sparsecode_pl.interchange.hooks import is_other_layer, is_other_model
from sparsecode_pl.measurement.arm import ROLES, Arm
from sparsecode_pl.measurement.counts import TOLERANCE, score_at_count
from sparsecode_pl.measurement.exact import ExactCodes
from sparsecode_pl.measurement.intervals import take_sums
from sparsecode_pl.measurement.loss import LOSS_SUMS, fit_loss
from sparsecode_pl.measurement.penalty import ShareNotReachedError
from sparsecode_pl.measurement.plan import Plan
from sparsecode_pl.measurement.record import DICTIONARY, Fit
from sparsecode_pl.measurement.shares import score_at_shares, score_rows
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.scoring import AtomUse, LargestCoefficient, Scores
from sparsecode_pl.utilities.bootstrap import Array
from sparsecode_pl.utilities.ranks import from_rank_zero

if TYPE_CHECKING:
    from sparsecode_pl.measurement.subjects import Layer, Subject

_CODERS: dict[str, Coder] = {"greedy": GreedyCoder(), "exact": LassoCoder()}


@dataclass(frozen=True)
class Found:
    """An autoencoder that has been read, and what is needed to find its layers; its weights are not kept.

    Attributes:
        sae: what it was given as.
        name: what tables call it, different for each.
        d_model: width of its activations.
        origin: where it comes from.
        fingerprint: tells it from others.
    """

    sae: str
    name: str
    d_model: int
    origin: Origin
    fingerprint: str


def find_autoencoders(saes: Sequence[str | Path]) -> list[Found]:
    """Read autoencoders, one at a time.

    Args:
        saes: what they are given as.

    Raises:
        FileNotFoundError: there is no such autoencoder.
        ImportError: one is of SAELens, and that is not installed.
        ValueError: one cannot be read.
        OSError: the hub cannot be reached.
    """
    found: list[Found] = []
    names: list[str] = []
    for sae in map(str, saes):
        autoencoder = load_autoencoder(sae)
        short = _short(sae)
        names.append(short)
        name = short if names.count(short) == 1 else f"{short} ({names.count(short)})"
        found.append(Found(sae, name, autoencoder.d_model, autoencoder.origin, autoencoder.fingerprint))
    return found


def arms_of(autoencoders: Sequence[Found], layers: Sequence["Layer"]) -> list[list[Arm]]:
    """The arms that are held beside each layer: those of the autoencoders of its width and, if known, its place.

    Args:
        autoencoders: what `find_autoencoders` gave.
        layers: the layers of the data.

    Returns:
        For each layer, its arms.

    Raises:
        ValueError: an autoencoder fits no layer.
    """
    arms: list[list[Arm]] = [[] for _ in layers]
    for each in autoencoders:
        for number in _fitting(each, layers):
            arms[number].append(Arm(each.sae, each.name, "own", fingerprint=each.fingerprint))
            for match, roles in ROLES.items():
                arms[number] += [Arm(each.sae, each.name, role, match, each.fingerprint) for role in roles]
    return arms


def _fitting(autoencoder: Found, layers: Sequence["Layer"]) -> list[int]:
    """Numbers of the layers that an autoencoder can be of."""
    sae, origin, hook = autoencoder.sae, autoencoder.origin, autoencoder.origin.hook
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


@lru_cache(maxsize=1)
def _load(sae: str, fingerprint: str) -> Autoencoder:
    """The autoencoder, kept for the arms that follow.

    Raises:
        ValueError: its files have changed meanwhile.
    """
    autoencoder = load_autoencoder(sae)
    if autoencoder.fingerprint != fingerprint:
        raise ValueError(f"sae is {sae!r}, whose files have changed since the run began: start a new run")
    return autoencoder


def score_arm(
    subject: "Subject",
    folder: Path,
    learnt: Path,
    own: Path,
    make_trainer: Callable[[SparseCodingModule, Path], Trainer],
    plan: Plan,
) -> Fit:
    """Score the codes of an arm, and write the scores to a folder.

    A kind of rows on which the arm cannot be made to match is left out, with a warning.

    Args:
        subject: what is scored, with an arm.
        folder: of this fit.
        learnt: folder of the fit of the layer.
        own: folder of the fit of the autoencoder's own codes, which must be done before the other arms.
        make_trainer: makes the trainer, of which only the device is used.
        plan: further evaluations, and whether to run the model; its shares of the variance are not for arms.
    """
    try:
        return _score(subject, folder, learnt, own, make_trainer, plan)
    except ShareNotReachedError as reason:  # every process finds this
        return Fit(subject.module.seed, folder, error=str(reason))
    finally:
        subject.data.release()


def _score(
    subject: "Subject",
    folder: Path,
    learnt: Path,
    own: Path,
    make_trainer: Callable[[SparseCodingModule, Path], Trainer],
    plan: Plan,
) -> Fit:
    start = time.perf_counter()
    arm, data = subject.arm, subject.data
    if arm is None:
        raise ValueError(f"{subject.title} is no autoencoder's")
    data.setup("fit")
    device = make_trainer(subject.module, folder).strategy.root_device
    autoencoder = _load(arm.sae, arm.fingerprint).to(device)
    autoencoder.centre = data.statistics.mean.to(autoencoder.atoms)
    targets = _set_penalty(autoencoder, arm, data, own)
    codecs = _Codecs(arm, autoencoder, learnt, data, targets)
    scores: dict[str, float] = {}
    sums: dict[str, Array] = {}
    alive: Tensor | None = None
    for kind in data.row_sets:
        codec = codecs.of(kind)
        try:
            lam, values = _at(codec, data, kind, arm, targets.get(kind))
        except ShareNotReachedError as reason:
            rank_zero_warn(f"{subject.title}, {ROWS[kind]}: {reason}. The scores of these rows are left out")
            continue
        _check_match(subject.title, arm, kind, float(values["N0"]), targets.get(kind))
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
        codec = codecs.of(kind)
        codec.lam = scores[score_name(kind, "lam")]  # type: ignore[misc]
        of_layer = from_rank_zero(lambda: Fit.read(learnt))
        before = None if of_layer is None else of_layer.sums.get(LOSS_SUMS)
        lost, loss_sums = fit_loss(codec, data, folder, before=before)
        scores, sums = scores | lost, sums | loss_sums
    scores |= {score_name(kind, "num_samples"): len(index) for kind, index in data.row_sets.items()}
    scores |= {"num_atoms": codec.num_atoms, "seconds": time.perf_counter() - start}
    if alive is not None:
        scores["atoms_alive"] = int((alive > 0).sum())
    fit = Fit(subject.module.seed, folder, scores, sums=sums)
    rank_zero_only(fit.write)()
    return fit


def _set_penalty(autoencoder: Autoencoder, arm: Arm, data: ActivationDataModule, own: Path) -> dict[str, float]:
    """Set the penalty of the own codes, and tell what an arm is to match, for each kind of rows.

    Raises:
        ShareNotReachedError: the own codes are zero, or have not been scored.
    """
    if arm.match is None:
        autoencoder.lam = _penalty(autoencoder, data, arm)
        return {}
    fit = from_rank_zero(lambda: Fit.read(own))
    if fit is None:
        raise ShareNotReachedError(f"the own codes of {arm.name} have no scores that others could match")
    autoencoder.lam = fit.scores["lam"]
    return {kind: fit.scores[score_name(kind, arm.match)] for kind in data.row_sets}


def _penalty(codec: Codec, data: ActivationDataModule, arm: Arm) -> float:
    """A tenth of the mean largest coefficient of the training rows, for codes that do not depend on the penalty."""
    largest = float(score_rows(codec, data, "train", [LargestCoefficient()])["mean_max"])
    if not largest > 0:
        raise ShareNotReachedError(f"sae is {arm.sae!r}, and all its codes of the training rows are zero: give another")
    return RATIO * largest


class _Codecs:
    """What codes the rows of an arm, for each kind of rows: matching pursuit takes as many steps as their N0.

    Args:
        arm: whose codes they are.
        own: the autoencoder, with its penalty.
        learnt: folder of the fit of the layer.
        data: the rows.
        targets: what is to be matched, by the kind of rows.
    """

    def __init__(
        self, arm: Arm, own: Autoencoder, learnt: Path, data: ActivationDataModule, targets: dict[str, float]
    ) -> None:
        self._arm, self._own = arm, own
        self._steps: dict[str, int] = {}
        if arm.role == "pursuit":
            self._steps = {kind: min(max(1, round(count)), own.num_atoms) for kind, count in targets.items()}
            self._codec: Codec = self._pursuit(self._steps["train"], own.lam)
            self._pursuing, self._lam = self._steps["train"], _penalty(self._codec, data, arm)
        elif arm.role == "learnt":
            self._codec = Dictionary.from_pretrained(learnt / DICTIONARY).to(own.atoms.device)
        else:
            self._codec = own if arm.role == "own" else own.with_coder(_CODERS[arm.role])

    def of(self, kind: str) -> Codec:
        """What codes rows of a kind."""
        if self._steps:
            if self._steps[kind] != self._pursuing:
                self._pursuing = self._steps[kind]
                self._codec = self._pursuit(self._pursuing, self._lam)
            self._codec.lam = self._lam  # type: ignore[misc]
        return self._codec

    def _pursuit(self, steps: int, lam: float) -> Codec:
        codec = self._own.with_coder(MatchingPursuitCoder(steps))
        codec.lam = lam
        return codec


def _at(
    codec: Codec, data: ActivationDataModule, kind: str, arm: Arm, target: float | None
) -> tuple[float, dict[str, Tensor]]:
    """Penalty and scores of rows of a kind where the codes match, with their sums and the use of atoms.

    Raises:
        ShareNotReachedError: they match at no penalty.
    """
    if arm.match == "N0" and target == 0:
        raise ShareNotReachedError("the own codes are all zero, which leaves nothing to match")
    if arm.match is None or arm.role == "pursuit" or target is None:
        return codec.lam, score_rows(codec, data, kind, [Scores(buckets=BUCKETS), AtomUse()])
    if arm.match == "N0":
        if arm.role == "exact" and target > codec.d_model:
            raise ShareNotReachedError(
                f"N0 is to be {target:.4g}, but exact codes have no more non-zero coefficients than the activations "
                f"have dimensions, {codec.d_model}"
            )
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


def _check_match(title: str, arm: Arm, kind: str, reached: float, target: float | None) -> None:
    """Warn if N0 is not what it is to be. That of matching pursuit is a whole number, unless residuals vanish."""
    if arm.match != "N0" or target is None:
        return
    near = max(0.5, TOLERANCE * target) if arm.role == "pursuit" else TOLERANCE * target
    if abs(reached - target) > near:
        rank_zero_warn(
            f"{title}, {ROWS[kind]}: N0 is to be {target:.4g}, and the nearest that was found is {reached:.4g}"
        )

"""What the encoder and the dictionary of an autoencoder cost, in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sparsecode_pl.data import ROWS
from sparsecode_pl.utilities.row_kinds import score_name

# Ends of the labels, and beginnings of those of the learnt dictionary.
_OWN, _GREEDY, _EXACT, _LEARNT = "own encoder", "greedy, same", "exact, same", "learnt dictionary,"
_PURSUIT = "pursuit, same"
_WORDS = {
    _PURSUIT: "matching pursuit on its decoder",
    _GREEDY: "greedy codes on its decoder",
    _EXACT: "exact codes on its decoder",
    _LEARNT: "greedy codes of the learnt dictionary",
}


def autoencoder_notes(records: Sequence[Mapping[str, Any]], best: str) -> Iterator[str]:
    """Sentences on each autoencoder beside each layer: at the same N0, and at the same explained variance.

    Args:
        records: one for each data set, measured ones before what is held beside them.
        best: the kind of rows that the sentences are about.
    """
    layer: Mapping[str, Any] = {}
    groups: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    layers: dict[tuple[int, str], Mapping[str, Any]] = {}
    for record in records:
        if "control_of" not in record:
            layer = record
        elif "sae" in record:
            groups.setdefault((id(layer), record["sae"]), []).append(record)
            layers[id(layer), record["sae"]] = layer
    said = False
    for (number, name), arms in groups.items():
        for sentence in _sentences(name, layers[number, name].get("data", ""), arms, best):
            said = True
            yield sentence
    if said:
        yield "Greedy and exact codes are shrunk by their penalty; those of an encoder and of matching pursuit are not."


def _sentences(name: str, data: str, arms: Sequence[Mapping[str, Any]], best: str) -> Iterator[str]:
    share, count = score_name(best, "explained_variance"), score_name(best, "N0")
    own = _find(arms, _OWN, "")
    if own is None or share not in own:
        return
    found = {
        (what, at): arm
        for what in _WORDS
        for at in ("N0", "expl. var.")
        if (arm := _find(arms, what, at)) is not None and share in arm
    }
    of = {what: found[what, "N0"][share] for what in _WORDS if (what, "N0") in found}
    if of:
        others = ", ".join(f"{_WORDS[what]} {value:.3f}" for what, value in of.items())
        costs = [f"the encoder costs {of[_PURSUIT] - own[share]:.3f}"] if _PURSUIT in of else []
        costs += [f"the dictionary {of[_LEARNT] - of[_GREEDY]:.3f}"] if {_GREEDY, _LEARNT} <= of.keys() else []
        yield (
            f"{name} at {data}, {ROWS[best]}: with N0 {own[count]:.3g}, its own encoder explains {own[share]:.3f} of "
            f"the variance, {others}{': ' if costs else ''}{', '.join(costs)}."
        )
    at = {what: found[what, "expl. var."][count] for what in _WORDS if (what, "expl. var.") in found}
    if at:
        others = ", ".join(f"{_WORDS[what]} {value:.3g}" for what, value in at.items())
        yield f"To explain {own[share]:.3f}, its own encoder has N0 {own[count]:.3g}, {others}."


def _find(arms: Sequence[Mapping[str, Any]], what: str, at: str) -> Mapping[str, Any] | None:
    """The arm of a label; that of the learnt dictionary names N0 or the variance in the middle."""
    for arm in arms:
        label = arm["data"]
        if (what == _OWN and label.endswith(_OWN)) or (
            at and what in label and (label.endswith(at) or f", {at} of " in label)
        ):
            return arm
    return None

"""What the encoder and the dictionary of an autoencoder cost, in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sparsecode_pl.data import ROWS
from sparsecode_pl.utilities.row_kinds import score_name

_WORDS = {
    "pursuit": "matching pursuit on its decoder",
    "greedy": "greedy codes on its decoder",
    "exact": "exact codes on its decoder",
    "learnt": "greedy codes of the learnt dictionary",
}


def autoencoder_notes(records: Sequence[Mapping[str, Any]], best: str) -> Iterator[str]:
    """Sentences on each autoencoder beside each layer: at the same N0, and at the same explained variance.

    Args:
        records: one for each data set.
        best: the kind of rows that the sentences are about.
    """
    # By what tells a layer from others, and the autoencoder; then by the role and the match.
    groups: dict[tuple[Any, ...], dict[tuple[str, str | None], Mapping[str, Any]]] = {}
    for record in records:
        if "arm" in record:
            arm = record["arm"]
            place = record["control_of"], record.get("model"), record.get("layer"), arm["sae"]
            groups.setdefault(place, {})[arm["role"], arm["match"]] = record
    said = False
    for (data, _, _, name), arms in groups.items():
        for sentence in _sentences(name, data, arms, best):
            said = True
            yield sentence
    if said:
        yield "Greedy and exact codes are shrunk by their penalty; those of an encoder and of matching pursuit are not."


def _sentences(
    name: str, data: str, arms: Mapping[tuple[str, str | None], Mapping[str, Any]], best: str
) -> Iterator[str]:
    share, count = score_name(best, "explained_variance"), score_name(best, "N0")
    own = arms.get(("own", None), {})
    if share not in own:
        return
    at_count, at_share = (
        {role: arms[role, match] for role in _WORDS if share in arms.get((role, match), {})}
        for match in ("N0", "explained_variance")
    )
    if at_count:
        others = ", ".join(f"{_WORDS[role]} {arm[share]:.3f} (N0 {arm[count]:.3g})" for role, arm in at_count.items())
        of = {role: arm[share] for role, arm in at_count.items()}
        costs = [f"the encoder costs {of['pursuit'] - own[share]:.3f}"] if "pursuit" in of else []
        costs += [f"the dictionary {of['learnt'] - of['greedy']:.3f}"] if {"greedy", "learnt"} <= of.keys() else []
        yield (
            f"{name} at {data}, {ROWS[best]}: with N0 {own[count]:.3g}, its own encoder explains {own[share]:.3f} of "
            f"the variance, {others}{': ' if costs else ''}{', '.join(costs)}."
        )
    if at_share:
        others = ", ".join(f"{_WORDS[role]} {arm[count]:.3g}" for role, arm in at_share.items())
        yield f"To explain {own[share]:.3f}, its own encoder has N0 {own[count]:.3g}, {others}."

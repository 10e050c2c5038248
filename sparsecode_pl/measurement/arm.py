"""What is held beside a layer because of an autoencoder: whose codes they are, and what they are compared at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: What codes are compared at.
Match = Literal["N0", "explained_variance"]
#: Whose codes they are.
Role = Literal["own", "greedy", "exact", "pursuit", "learnt"]

#: What is compared at each.
ROLES: dict[Match, tuple[Role, ...]] = {
    "N0": ("greedy", "exact", "pursuit", "learnt"),
    "explained_variance": ("greedy", "exact", "learnt"),
}
_AT: dict[str, str] = {"N0": "N0", "explained_variance": "expl. var."}


@dataclass(frozen=True)
class Arm:
    """Codes of a layer's rows that are held beside the layer because of an autoencoder.

    Attributes:
        sae: what the autoencoder was given as, for `load_autoencoder`.
        name: what tables call it.
        role: "own": its own encoder; "greedy" or "exact": such codes on its decoder; "pursuit": those of matching
            pursuit on it, with N0 steps; "learnt": the codes of the layer's dictionary.
        match: what is made the same as that of its own codes; None for these.
        fingerprint: of the autoencoder, which tells it from another one of the same name.
    """

    sae: str
    name: str
    role: Role
    match: Match | None = None
    fingerprint: str = ""

    @property
    def label(self) -> str:
        """Its name in tables."""
        if self.match is not None and self.role == "learnt":
            return f"learnt dictionary, {_AT[self.match]} of {self.name}"
        return f"{self.name}, {codes_label(self.plain())}"

    def plain(self) -> dict[str, str | None]:
        """What a record keeps: the name as "sae", the role and the match."""
        return {"sae": self.name, "role": self.role, "match": self.match}


def codes_label(arm: Mapping[str, Any]) -> str:
    """What the codes of an arm are called, without the name of the autoencoder.

    Args:
        arm: what `Arm.plain` gave.

    Example:
        >>> codes_label(Arm("here", "mine", "greedy", "N0").plain()), codes_label(Arm("here", "mine", "own").plain())
        ('greedy, same N0', 'own encoder')
    """
    if arm["match"] is None:
        return "own encoder"
    role = "learnt dictionary" if arm["role"] == "learnt" else arm["role"]
    return f"{role}, same {_AT[arm['match']]}"

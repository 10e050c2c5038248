"""What can be measured."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Codec(Protocol):
    """Whatever encodes activations sparsely and decodes codes: a `Dictionary`, or an autoencoder of your own.

    Scores are computed in the units of the codes: those of the activations after `standardise`.
    """

    @property
    def atoms(self) -> Tensor:
        """Unit rows, (m, d)."""

    @property
    def d_model(self) -> int:
        """Width d of the activations."""

    @property
    def num_atoms(self) -> int:
        """Number of atoms m."""

    @property
    def lam(self) -> float:
        """Penalty that the codes are found and scored at unless another is given, > 0."""

    def bind(self) -> "Codec":
        """The same for many calls, with whatever is worth computing once for all of them; it may be itself."""

    def standardise(self, x: Tensor) -> Tensor:
        """Activations (n, d) centred and scaled to the units of the codes."""

    def encode(self, x: Tensor, lam: float | None = None) -> Tensor:
        """Codes >= 0 of activations (n, d), sparse CSR (n, m)."""

    def reconstruct(self, x: Tensor, codes: Tensor) -> Tensor:
        """The reconstruction, (n, d), of activations x (n, d) from their codes, in the units of x."""

    def residual(self, x: Tensor, codes: Tensor) -> Tensor:
        """What codes (n, m) miss of activations x (n, d), in the units of the codes, (n, d)."""

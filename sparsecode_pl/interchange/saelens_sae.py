"""Our dictionaries as an architecture of SAELens. Importing this imports SAELens."""

from dataclasses import dataclass, field
from typing import Any

import torch
from sae_lens.registry import SAE_CLASS_REGISTRY, register_sae_class
from sae_lens.saes.sae import SAE, SAEConfig
from torch import Tensor, nn
from torch.nn.functional import normalize

from sparsecode_pl.coding import BoundCoder, Coder
from sparsecode_pl.interchange.saelens_export import ARCHITECTURE


@dataclass
class SparsecodeSAEConfig(SAEConfig):  # type: ignore[misc]  # SAELens has no types
    """Settings of a `SparsecodeSAE`, beside those of every autoencoder of SAELens.

    Attributes:
        lam: penalty, > 0, in the units of the scaled activations.
        scale: what centred activations are divided by, > 0.
        coder: settings of the coder, see `Coder.settings`.
    """

    lam: float = 1.0
    scale: float = 1.0
    coder: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def architecture(cls) -> str:
        """Its name among SAELens's architectures."""
        return ARCHITECTURE


class SparsecodeSAE(SAE[SparsecodeSAEConfig]):  # type: ignore[misc]
    """A dictionary with its coder: atoms as the decoder, and no encoder weights.

    `encode` gives the dictionary's codes times its scale, in the units of the activations, dense. `decode` gives its
    reconstruction.
    """

    _bound: BoundCoder | None = None

    def initialize_weights(self) -> None:
        """The atoms, (d_sae, d_in), and the centre, (d_in,)."""
        options: dict[str, Any] = {"dtype": self.dtype, "device": self.device}
        atoms = torch.zeros(self.cfg.d_sae, self.cfg.d_in, **options)
        if not atoms.is_meta:
            nn.init.normal_(atoms)
        self.W_dec = nn.Parameter(normalize(atoms, dim=1))
        self.b_dec = nn.Parameter(torch.zeros(self.cfg.d_in, **options))

    @property
    def W_enc(self) -> Tensor:  # noqa: N802  # SAELens's name
        """The transposed atoms, (d_in, d_sae): what is shown where SAELens asks for an encoder."""
        return self.W_dec.T

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Codes times the scale, dense, (..., d_sae), of activations (..., d_in)."""
        rows = self.process_sae_in(x)
        coder = self._coder()
        flat = rows.reshape(-1, rows.shape[-1]).to(coder.atoms) / self.cfg.scale
        codes = coder(flat, self.cfg.lam).to_dense() * self.cfg.scale
        return self.hook_sae_acts_post(codes.to(rows).reshape(*rows.shape[:-1], -1))  # type: ignore[no-any-return]

    def decode(self, feature_acts: Tensor) -> Tensor:
        """The reconstruction, (..., d_in), of codes (..., d_sae)."""
        out = self.hook_sae_recons(feature_acts @ self.W_dec + self.b_dec)
        return self.reshape_fn_out(self.run_time_activation_norm_fn_out(out), self.d_head)  # type: ignore[no-any-return]

    def fold_W_dec_norm(self) -> None:  # noqa: N802  # SAELens's name
        """Nothing: the atoms have norm 1."""

    def fold_activation_norm_scaling_factor(self, scaling_factor: float) -> None:
        """Not possible: the dictionary is in the units of the activations already.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"the architecture {ARCHITECTURE} has its scale in its configuration: change that")

    def _coder(self) -> BoundCoder:
        """The coder, bound to the atoms as they are."""
        atoms = self.W_dec.detach()
        bound = self._bound
        if bound is None or (bound.atoms.data_ptr(), bound.atoms.device) != (atoms.data_ptr(), atoms.device):
            if atoms.dtype not in (torch.float32, torch.float64):
                atoms = normalize(atoms.float(), dim=1)
            bound = self._bound = Coder.from_settings(self.cfg.coder).bind(atoms)
        return bound

    def __getstate__(self) -> dict[str, Any]:
        """Without the bound coder, which is made anew."""
        return self.__dict__ | {"_bound": None}


def register() -> None:
    """Make the architecture known to SAELens, once."""
    if ARCHITECTURE not in SAE_CLASS_REGISTRY:
        register_sae_class(ARCHITECTURE, SparsecodeSAE, SparsecodeSAEConfig)

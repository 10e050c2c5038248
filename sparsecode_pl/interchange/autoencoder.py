"""A trained sparse autoencoder as a codec, in the units of the activations and of unit atoms."""

import math
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from sparsecode_pl.coding import BoundCoder, Coder, csr_codes, reconstruct
from sparsecode_pl.coding.checks import check_penalty
from sparsecode_pl.interchange.fingerprint import fingerprint_of
from sparsecode_pl.interchange.normalisation import Normalisation, undoing
from sparsecode_pl.utilities.arguments import check_arguments, check_tensor

#: The penalty of an autoencoder's own codes, over their mean largest coefficient: as the adaptive penalty sets it.
RATIO = 0.1

# Feature activations that are dense at a time, in bytes.
_MEMORY = 1 << 28


@dataclass(frozen=True)
class Origin:
    """Where an autoencoder comes from, as far as its files say.

    Attributes:
        name: the folder or hub name that it was read from.
        architecture: such as "topk".
        model: name of the model that it was trained on.
        hook: where in the model, by the name that the files give.
    """

    name: str = ""
    architecture: str = ""
    model: str | None = None
    hook: str | None = None


class _Penalised:
    """What has a penalty that can be set."""

    _lam: float

    @property
    def lam(self) -> float:
        """Penalty that codes are scored at; NaN until it is set, or `Autoencoder.adapt_penalty` has found it."""
        return self._lam

    @lam.setter
    def lam(self, value: float) -> None:
        self._lam = check_penalty(value)


class Autoencoder(_Penalised):
    """A trained sparse autoencoder that encodes by itself, with its own encoder.

    It is a `Codec`. A feature activation times the norm of its row of the decoder is the coefficient of a unit atom, so
    that scores do not depend on how the decoder is scaled. What the autoencoder does to rows before encoding and undoes
    after decoding, and the bias of the decoder, are in the reconstruction: it equals that of the autoencoder itself.

    A decoder row of norm 0 stands for an arbitrary unit atom, whose coefficient is always 0. Where activations may be
    negative (`signed`), every feature is two atoms, f and -f.

    Args:
        encoder: turns activations as they come, (n, d), into feature activations, (n, k), >= 0 unless signed. A row's
            must not depend on the other rows.
        decoder: what they are multiplied with, (k, d).
        bias: what is added then, (d,).
        normalisation: what is undone last; the encoder does it by itself.
        signed: whether feature activations may be negative.
        origin: where it comes from.
        settings: of the encoder, beside its parameters, such as its k. They are for `fingerprint` alone.

    Attributes:
        atoms: unit rows, (m, d); m is k, or 2k if signed.
        norms: those of the decoder's rows, (k,).
        bias: as given, (d,).
        normalisation: as given.
        signed: as given.
        origin: as given.
        settings: as given.
        centre: what `standardise` subtracts, (d,). It does not change the codes. Zero at first; the mean of the
            activations makes the intervals of explained variance exact.

    Raises:
        ValueError: the tensors do not fit together or are not finite.

    Example:
        >>> decoder = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> encoder = lambda x: (x - 1).relu() / torch.tensor([2.0, 1.0])
        >>> own = Autoencoder(encoder, decoder, torch.ones(2))
        >>> x = torch.tensor([[5.0, 0.0]])
        >>> codes = own.encode(x)
        >>> codes.to_dense().tolist(), own.reconstruct(x, codes).tolist()
        ([[4.0, 0.0]], [[5.0, 1.0]])
    """

    def __init__(
        self,
        encoder: Callable[[Tensor], Tensor],
        decoder: Tensor,
        bias: Tensor,
        normalisation: Normalisation = "none",
        *,
        signed: bool = False,
        origin: Origin | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        check_arguments(Autoencoder.__init__, locals())
        for name, tensor in (("decoder", decoder), ("bias", bias)):
            check_tensor(tensor, name, floating=True)
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{name} has values that are NaN or infinite: give a trained autoencoder")
        if decoder.ndim != 2 or bias.shape != decoder.shape[1:]:
            raise ValueError(
                f"decoder has shape {tuple(decoder.shape)} and bias {tuple(bias.shape)}: give (k, d) and (d,)"
            )
        self.encoder = encoder
        self.norms = torch.linalg.vector_norm(decoder.detach(), dim=1).float()
        unit = decoder.detach().float() / torch.where(self.norms > 0, self.norms, 1.0)[:, None]
        unit[self.norms == 0, 0] = 1.0
        self.atoms = torch.cat([unit, -unit]) if signed else unit
        self.bias = bias.detach().float()
        self.normalisation = normalisation
        self.signed = signed
        self.origin = Origin() if origin is None else origin
        self.settings = dict(settings or {})
        self.centre = torch.zeros_like(self.bias)
        self._lam = math.nan

    @property
    def d_model(self) -> int:
        """Width d of the activations."""
        return self.atoms.shape[1]

    @property
    def num_atoms(self) -> int:
        """Number of atoms m."""
        return self.atoms.shape[0]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell it from an autoencoder with other codes or another reconstruction.

        They are of atoms, norms, bias, normalisation and settings, and of the parameters and buffers of an encoder that
        is a module; of another encoder nothing more is known. Origin, device, `centre` and `lam` make no difference.
        """
        tensors = {"atoms": self.atoms, "norms": self.norms, "bias": self.bias}
        if isinstance(self.encoder, nn.Module):
            tensors |= {f"encoder.{name}": each for name, each in self.encoder.named_parameters()}
            tensors |= {f"encoder.{name}": each for name, each in self.encoder.named_buffers()}
        return fingerprint_of({"normalisation": self.normalisation, "signed": self.signed} | self.settings, tensors)

    def to(self, device: torch.device | str) -> Self:
        """The same on another device. An encoder that is a module is moved, not copied."""
        moved = copy(self)
        if isinstance(self.encoder, nn.Module):
            moved.encoder = self.encoder.to(device)
        for name in ("norms", "atoms", "bias", "centre"):
            setattr(moved, name, getattr(self, name).to(device))
        return moved

    def bind(self) -> Self:
        """Itself."""
        return self

    def with_coder(self, coder: Coder) -> "DecoderCodec":
        """The same decoder with another way to find codes, such as `GreedyCoder()` or `LassoCoder()`."""
        return DecoderCodec(self, coder)

    @torch.no_grad()
    def adapt_penalty(self, x: Tensor) -> Self:
        """Set `lam` to a tenth of the mean largest coefficient of the own codes of x, (n, d).

        Returns:
            Itself.

        Raises:
            ValueError: all codes are zero.
        """
        codes = self.encode(x)
        largest = torch.segment_reduce(codes.values().double(), "max", offsets=codes.crow_indices(), initial=0.0)
        mean = float(largest.mean())
        if not mean > 0:
            raise ValueError("the own codes of all rows are zero, so no penalty follows from them: give other rows")
        self.lam = RATIO * mean
        return self

    def standardise(self, x: Tensor) -> Tensor:
        """Activations (n, d) minus `centre`: the codes are in the units of the activations."""
        return self._checked(x) - self.centre

    def offset(self, x: Tensor) -> Tensor:
        """What the reconstruction adds to `codes @ atoms`: the decoder's bias in the units of each row, (n, d)."""
        undo = undoing(self._checked(x), self.normalisation)
        return undo.scale * self.bias + undo.shift

    @torch.no_grad()
    def encode(self, x: Tensor, lam: float | None = None) -> Tensor:
        """The own encoder's codes, in the units of the activations.

        Args:
            x: activations as they come, (n, d).
            lam: makes no difference; there so that this is a `Codec`.

        Returns:
            Sparse CSR, (n, m).

        Raises:
            ValueError: x has another width, or the encoder gives negative or infinite activations.
        """
        x = self._checked(x)
        size = max(1, _MEMORY // (4 * self.num_atoms))
        return _joined([self._encode(block) for block in x.split(size)], self.num_atoms)

    def _encode(self, x: Tensor) -> Tensor:
        scale = undoing(x, self.normalisation).scale
        activations = self.encoder(x).float()
        zero = scale == 0
        if zero.any():  # such a row is constant or zero, and has no codes; an encoder may divide by its scale
            activations = activations.masked_fill(zero, 0.0)
        coefficients = activations * (self.norms * scale)
        if self.signed:
            coefficients = torch.cat([coefficients, -coefficients], dim=1).relu()
        codes: Tensor = coefficients.to_sparse_csr()
        values = codes.values()
        if not torch.isfinite(values).all():
            raise ValueError(f"the encoder of {self.origin.name or 'the autoencoder'} gives values that are not finite")
        if (values < 0).any():
            raise ValueError(
                f"the {self.origin.architecture or 'own'} encoder gives negative activations, and codes are >= 0: give "
                "signed=True, which makes two atoms of each feature"
            )
        return codes

    @torch.no_grad()
    def reconstruct(self, x: Tensor, codes: Tensor) -> Tensor:
        """The autoencoder's reconstruction, (n, d), of activations x (n, d) from their codes."""
        return reconstruct(codes, self.atoms) + self.offset(x)

    def residual(self, x: Tensor, codes: Tensor) -> Tensor:
        """What the reconstruction of activations x (n, d) from their codes misses, (n, d)."""
        return self._checked(x) - self.reconstruct(x, codes)

    def _checked(self, x: Tensor) -> Tensor:
        check_tensor(x, "x", floating=True)
        if x.ndim != 2 or x.shape[1] != self.d_model:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, but the autoencoder has width {self.d_model}: give (n, {self.d_model})"
            )
        return x.to(self.atoms)


class DecoderCodec(_Penalised):
    """The decoder of an autoencoder, with codes that a coder finds. It is a `Codec`.

    What is coded are the activations minus what the reconstruction adds to them (`Autoencoder.offset`), in the units of
    the activations. See `Autoencoder.with_coder`.

    Args:
        autoencoder: whose decoder it is.
        coder: how codes are found.

    Attributes:
        autoencoder: as given.
        coder: the coder, bound to the atoms.

    Example:
        >>> from sparsecode_pl.coding import GreedyCoder
        >>> own = Autoencoder(lambda x: x.relu(), torch.eye(2), torch.ones(2))
        >>> x = torch.tensor([[5.0, 1.0]])
        >>> codes = own.with_coder(GreedyCoder()).encode(x, lam=1.0)
        >>> codes.to_dense().tolist(), own.reconstruct(x, codes).tolist()
        ([[3.5, 0.0]], [[4.5, 1.0]])
    """

    def __init__(self, autoencoder: Autoencoder, coder: Coder) -> None:
        check_arguments(DecoderCodec.__init__, locals())
        self.autoencoder = autoencoder
        self.coder: BoundCoder = coder.bind(autoencoder.atoms)
        self._lam = autoencoder.lam

    @property
    def atoms(self) -> Tensor:
        """Unit rows, (m, d)."""
        return self.autoencoder.atoms

    @property
    def d_model(self) -> int:
        """Width d of the activations."""
        return self.autoencoder.d_model

    @property
    def num_atoms(self) -> int:
        """Number of atoms m."""
        return self.autoencoder.num_atoms

    def bind(self) -> Self:
        """Itself."""
        return self

    def standardise(self, x: Tensor) -> Tensor:
        """Activations (n, d) minus the autoencoder's `centre`."""
        return self.autoencoder.standardise(x)

    def encode(self, x: Tensor, lam: float | None = None) -> Tensor:
        """Codes of activations x (n, d), sparse CSR (n, m).

        Raises:
            ValueError: there is no penalty, or x has another width.
        """
        lam = self.lam if lam is None else lam
        if math.isnan(lam):
            raise ValueError("lam is missing, and the autoencoder has none: give lam, or call adapt_penalty")
        return self.coder(x.to(self.atoms) - self.autoencoder.offset(x), lam)

    def reconstruct(self, x: Tensor, codes: Tensor) -> Tensor:
        """The reconstruction, (n, d), of activations x (n, d) from their codes."""
        return self.autoencoder.reconstruct(x, codes)

    def residual(self, x: Tensor, codes: Tensor) -> Tensor:
        """What the reconstruction of activations x (n, d) from their codes misses, (n, d)."""
        return self.autoencoder.residual(x, codes)


def _joined(blocks: list[Tensor], num_atoms: int) -> Tensor:
    """Sparse CSR codes one below the other."""
    if len(blocks) == 1:
        return blocks[0]
    lengths = torch.cat([block.crow_indices().diff() for block in blocks])
    crow = torch.cat([lengths.new_zeros(1), lengths]).cumsum(0)
    col = torch.cat([block.col_indices() for block in blocks])
    return csr_codes(crow, col, torch.cat([block.values() for block in blocks]), num_atoms)

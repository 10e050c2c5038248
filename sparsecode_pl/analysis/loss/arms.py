"""What activations are replaced by: a codec's reconstruction, and the controls it is held against."""

import math

import torch
from lightning.pytorch.utilities import rank_zero_warn
from scipy.optimize import brentq
from torch import Tensor

from sparsecode_pl.codec import Codec
from sparsecode_pl.data import Replace, Rows, generator, row_blocks
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.utilities.ranks import from_rank_zero

# Relative precision of the random dictionary's penalty, and the smallest one that is tried, as a share of the largest.
_PRECISION, _SMALLEST = 0.002, 1e-5
_RANDOM = 61  # a stream of random numbers


def codec_arm(codec: Codec, lam: float | None = None) -> Replace:
    """Replaces activations by their reconstruction.

    Args:
        codec: what encodes and reconstructs them, on any device.
        lam: penalty; the codec's if None.
    """
    bound = codec.bind()

    def replace(x: Tensor) -> Tensor:
        rows = x.to(bound.atoms.device)
        return bound.reconstruct(rows, bound.encode(rows, lam)).to(x)

    return replace


def constant_arm(value: Tensor) -> Replace:
    """Replaces all activations by one vector, (d,)."""

    def replace(x: Tensor) -> Tensor:
        return value.to(x).expand_as(x)

    return replace


def component_arm(mean: Tensor, components: Tensor) -> Replace:
    """Replaces activations by their projection onto principal components.

    Args:
        mean: that they are centred by, (d,).
        components: orthonormal, (k, d).
    """

    def replace(x: Tensor) -> Tensor:
        centre, axes = mean.to(x), components.to(x)
        return centre + (x - centre) @ axes.T @ axes

    return replace


def control_arms(
    codec: Codec, rows: Rows, index: Tensor, mean: Tensor, sample: Tensor, lam: float | None = None, seed: int = 0
) -> tuple[dict[str, Replace], dict[str, float]]:
    """The controls of a codec: what no decomposition was learnt for, at its N0, and two ablations.

    Args:
        codec: what they are controls of.
        rows: all activations, (n, d).
        index: which of them are for training, (k,) int64.
        mean: of these, (d,).
        sample: some activations, (s, d), on which N0 is counted.
        lam: penalty of the codec; its own if None.
        seed: of the random dictionary.

    Returns:
        What activations are replaced by, and for the first two how many numbers that takes per row, N0.

        - "random dictionary": as many random atoms, at the penalty where the greedy step uses as many per row.
        - "k principal components", with k the codec's N0, rounded: the largest ones of the training rows.
        - "mean": the mean of the training rows.
        - "zero".
    """
    n0 = from_rank_zero(lambda: mean_nonzero(codec, sample, lam))
    dictionary = random_dictionary(codec.num_atoms, sample, n0, mean, seed)
    dictionary.lam = from_rank_zero(lambda: dictionary.lam)  # no two processes may differ in the last digit
    k = min(max(1, round(n0)), codec.d_model)
    components = principal_components(rows, index, mean, k, codec.atoms.device)
    principal = f"{k} principal component{'s' * (k > 1)}"
    arms: dict[str, Replace] = {
        "random dictionary": codec_arm(dictionary),
        principal: component_arm(mean, components),
        "mean": constant_arm(mean),
        "zero": torch.zeros_like,
    }
    return arms, {"random dictionary": mean_nonzero(dictionary, sample), principal: float(k)}


def mean_nonzero(codec: Codec, sample: Tensor, lam: float | None = None) -> float:
    """N0 of some activations, (s, d): the mean number of their non-zero coefficients."""
    codes = codec.encode(sample.to(codec.atoms.device), lam)
    return int((codes.values() != 0).sum()) / len(sample)


def random_dictionary(num_atoms: int, sample: Tensor, n0: float, centre: Tensor, seed: int = 0) -> Dictionary:
    """A dictionary of random atoms, whose penalty is such that the greedy step uses a given number of them per row.

    Args:
        num_atoms: m.
        sample: activations, (s, d), on which that number is counted.
        n0: the number, >= 0.
        centre: what they are centred by, (d,).
        seed: of the atoms.

    Example:
        >>> x = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
        >>> dictionary = random_dictionary(64, x, 5.0, torch.zeros(16))
        >>> round(mean_nonzero(dictionary, x), 1)
        5.0
    """
    random = generator(seed, _RANDOM)
    dictionary = Dictionary.random(num_atoms, sample.shape[1], random, centre=centre.float()).to(sample.device)
    bound = dictionary.bind()
    # From there on all codes are zero.
    largest = 2 * float(torch.linalg.vector_norm(dictionary.standardise(sample), dim=1).max())

    def excess(log: float) -> float:
        return mean_nonzero(bound, sample, largest * math.exp(log)) - n0

    low = 0.0
    while excess(low) < 0:
        if low < math.log(_SMALLEST):
            rank_zero_warn(
                f"a random dictionary of {num_atoms:,} atoms uses at most {excess(low) + n0:.3g} of them per row, not "
                f"{n0:.3g}: as a control it is too sparse"
            )
            break
        low -= 0.5
    else:
        low = brentq(excess, low, 0.0, xtol=_PRECISION) if low < 0 else low
    dictionary.lam = largest * math.exp(low)
    return dictionary


def principal_components(rows: Rows, index: Tensor, mean: Tensor, k: int, device: torch.device) -> Tensor:
    """The k largest principal components of some rows, (k, d) float32, in one pass.

    Args:
        rows: all activations, (n, d).
        index: those that are looked at, int64.
        mean: of these, (d,).
        k: in [1, d].
        device: where it is computed.
    """
    centre = mean.to(device, torch.float32)
    width = rows.shape[1]
    covariance = torch.zeros(width, width, dtype=torch.float64, device=device)
    for block in row_blocks(rows, index):
        x = block.to(device) - centre
        covariance += (x.T @ x).double()
    components: Tensor = torch.linalg.eigh(covariance).eigenvectors[:, -k:].T.flip(0).float()
    return components

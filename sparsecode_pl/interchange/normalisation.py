"""What an autoencoder does to each row before encoding, and undoes after decoding."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

#: None; norm sqrt(d); mean 0 and standard deviation 1; mean 0; mean 0 and then norm sqrt(d).
Normalisation = Literal["none", "constant_norm_rescale", "layer_norm", "row_mean", "row_mean_norm_rescale"]


class Affine(NamedTuple):
    """What turns a normalised reconstruction back: times `scale` plus `shift`.

    Attributes:
        scale: of each row, (n, 1), >= 0.
        shift: of each row, (n, 1).
    """

    scale: Tensor
    shift: Tensor


def undoing(x: Tensor, normalisation: Normalisation) -> Affine:
    """The affine map of each row from normalised units back to those of the activations.

    Args:
        x: activations, (n, d).
        normalisation: how rows are normalised before encoding. Means are over the d values of a row.

    Example:
        >>> x = torch.tensor([[3.0, 4.0, 0.0, 0.0]])
        >>> undoing(x, "constant_norm_rescale").scale  # 5 / sqrt(4)
        tensor([[2.5000]])
        >>> undoing(torch.tensor([[1.0, 3.0]]), "layer_norm").shift
        tensor([[2.]])
    """
    mean = x.mean(dim=1, keepdim=True)
    if normalisation == "layer_norm":  # the standard deviation is about the mean and unbiased, as SAELens takes it
        return Affine(x.std(dim=1, keepdim=True), mean)
    shift = mean if normalisation in ("row_mean", "row_mean_norm_rescale") else torch.zeros_like(mean)
    if normalisation in ("constant_norm_rescale", "row_mean_norm_rescale"):
        return Affine(torch.linalg.vector_norm(x - shift, dim=1, keepdim=True) / x.shape[1] ** 0.5, shift)
    return Affine(torch.ones_like(mean), shift)

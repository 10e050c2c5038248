"""What an autoencoder does to each row before encoding, and undoes after decoding."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

#: None; norm sqrt(d); mean 0 and standard deviation 1.
Normalisation = Literal["none", "constant_norm_rescale", "layer_norm"]


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
        normalisation: how rows are normalised before encoding.

    Example:
        >>> x = torch.tensor([[3.0, 4.0, 0.0, 0.0]])
        >>> undoing(x, "constant_norm_rescale").scale  # 5 / sqrt(4)
        tensor([[2.5000]])
        >>> undoing(torch.tensor([[1.0, 3.0]]), "layer_norm").shift
        tensor([[2.]])
    """
    if normalisation == "constant_norm_rescale":
        scale = torch.linalg.vector_norm(x, dim=1, keepdim=True) / x.shape[1] ** 0.5
        return Affine(scale, torch.zeros_like(scale))
    if normalisation == "layer_norm":  # the standard deviation is about the mean and unbiased, as SAELens takes it
        return Affine(x.std(dim=1, keepdim=True), x.mean(dim=1, keepdim=True))
    one = x.new_ones(len(x), 1)
    return Affine(one, torch.zeros_like(one))

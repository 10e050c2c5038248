"""A tensor as a data module."""

from typing import Any

import torch
from torch import Tensor

from sparsecode_pl.data.base import ActivationDataModule


class TensorActivations(ActivationDataModule):
    """Activations that you already have in memory.

    Args:
        x: the rows, (n, d_model), floating point.
        name: what tables and pictures call them.
        kwargs: the arguments of `ActivationDataModule`.

    Example:
        >>> data = TensorActivations(torch.eye(10), val_split=0.2)
        >>> data.d_model, len(data.train_index), len(data.heldout_index)
        (10, 8, 2)
    """

    def __init__(self, x: Tensor, name: str = "activations", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._x = torch.as_tensor(x)
        self._name = name

    @property
    def label(self) -> str:
        """The name given."""
        return self._name

    def load(self) -> Tensor:
        """The tensor given."""
        return self._x

"""Activations that are in memory already."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsecode_pl.data.checks import check_columns
from sparsecode_pl.data.module import ActivationDataModule
from sparsecode_pl.data.source import GroundTruth, Place, Source
from sparsecode_pl.utilities.arguments import check_arguments


class TensorSource(Source):
    """The rows of a tensor.

    Args:
        x: the rows, (n, d_model), floating point.
        label: their name in tables and pictures.
        columns: one entry for each row, such as its token.
        place: the layer of a model that they come from.
        provenance: how they were made, in plain types.
        ground_truth: the known answer, if there is one.

    Raises:
        TypeError: x is nothing that can be made a tensor.

    Example:
        >>> TensorSource(torch.eye(3), label="mine", place=Place("my model", "2")).rows.shape
        torch.Size([3, 3])
    """

    def __init__(
        self,
        x: Tensor,
        label: str = "activations",
        *,
        columns: Mapping[str, list[str] | Tensor] | None = None,
        place: Place | None = None,
        provenance: Mapping[str, Any] | None = None,
        ground_truth: GroundTruth | None = None,
    ) -> None:
        try:
            self._x = torch.as_tensor(x)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{label}: x is a {type(x).__name__}: give a floating-point tensor (n, d_model)") from error
        self._label = label
        self._columns = dict(columns or {})
        self._place = place
        self._provenance = dict(provenance or {})
        self._ground_truth = ground_truth

    def load(self) -> Tensor:
        """The tensor given."""
        return self._x

    @property
    def label(self) -> str:
        """The name given."""
        return self._label

    @property
    def columns(self) -> Mapping[str, list[str] | Tensor]:
        """The columns given."""
        return self._columns

    @property
    def place(self) -> Place | None:
        """The layer given."""
        return self._place

    @property
    def provenance(self) -> dict[str, Any]:
        """The provenance given."""
        return self._provenance

    @property
    def ground_truth(self) -> GroundTruth | None:
        """The answer given."""
        return self._ground_truth


class TensorActivations(ActivationDataModule):
    """Activations that you have in memory already.

    Args:
        x: the rows, (n, d_model), floating point.
        name: their name in tables and pictures.
        columns: one entry for each row, by name, such as its speaker: lists, arrays or tensors of numbers or strings.
        kwargs: the arguments of `ActivationDataModule`.

    Example:
        >>> data = TensorActivations(torch.eye(10), val_split=0.2)
        >>> data.d_model, len(data.train_index), len(data.heldout_index)
        (10, 8, 2)
        >>> columns = {"speaker": list("aabbccddee")}
        >>> data = TensorActivations(torch.eye(10), columns=columns, heldout_by="speaker", val_split=0.2)
        >>> {columns["speaker"][row] for row in data.heldout_index}  # one of five speakers, with both rows
        {'b'}
    """

    def __init__(
        self,
        x: Tensor,
        name: str = "activations",
        *,
        columns: Mapping[str, Sequence[Any] | NDArray[Any] | Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        check_arguments(TensorActivations.__init__, locals())
        super().__init__(**kwargs)
        source = TensorSource(x, name)
        if columns:
            source = TensorSource(x, name, columns=check_columns(columns, len(source.rows), source=name))
        self._source = source

    def sources(self) -> list[Source]:
        """The tensor given."""
        return [self._source]

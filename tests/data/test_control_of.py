import pytest
import torch

from sparsecode_pl.data import Control, ControlOf, Source, TensorActivations, TensorSource


class Halved(Control):
    """Half of the data."""

    def of(self, source: Source) -> Source:
        return TensorSource(source.rows[:] / 2, label=self.label)


class Frozen(Control):
    """The data, and a module that does not learn."""

    module = {"learn": False}  # noqa: RUF012


def test_a_control_can_be_fitted_as_data_in_its_own_right():
    data = ControlOf(Halved(), TensorActivations(torch.ones(20, 2), name="ones"), batch_size=5)
    assert (data.label, data.d_model, data.batch_size) == ("Halved", 2, 5)
    assert torch.equal(data.rows, torch.full((20, 2), 0.5))
    with pytest.raises(
        ValueError, match=r"Frozen has no rows of its own: fit the data itself, with --model\.learn False"
    ):
        ControlOf(Frozen(), TensorActivations(torch.ones(20, 2)))

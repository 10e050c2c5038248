import torch

from sparsecode_pl.data import (
    Control,
    Source,
    TensorSource,
    control_random,
    generator,
)


class Halved(Control):
    """Half of the data."""

    def of(self, source: Source) -> Source:
        return TensorSource(source.rows[:] / 2, label=self.label)


class Frozen(Control):
    """The data, and a module that does not learn."""

    module = {"learn": False}  # noqa: RUF012


def test_a_control_makes_other_rows_or_changes_the_module():
    source = TensorSource(torch.ones(3, 2))
    assert torch.equal(Halved().of(source).rows, torch.full((3, 2), 0.5))
    assert (Halved().label, dict(Halved().module)) == ("Halved", {})
    assert Frozen().of(source) is source
    assert Frozen().module == {"learn": False}


def test_draws_of_controls_data_and_purposes_are_unrelated():
    keys = [control_random(0, "A", 2), control_random(0, "B", 2), control_random(0, "A", 3), generator(0, 2)]
    keys += [control_random(0, "A", 2, own=True), control_random(1, "A", 2)]
    assert len({float(torch.rand(1, generator=random)) for random in keys}) == 6
    again = [torch.rand(3, generator=control_random(5, "A", 2)) for _ in range(2)]
    assert torch.equal(*again)

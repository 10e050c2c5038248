import pytest
import torch

from sparsecode_pl.data import (
    ActivationDataModule,
    Control,
    ControlOf,
    Source,
    TensorActivations,
    TensorSource,
    control_random,
    fill_store,
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


def test_a_control_can_be_fitted_as_data_in_its_own_right():
    data = ControlOf(Halved(), TensorActivations(torch.ones(20, 2), name="ones"), batch_size=5)
    assert (data.label, data.d_model, data.batch_size) == ("Halved", 2, 5)
    assert torch.equal(data.rows, torch.full((20, 2), 0.5))
    with pytest.raises(
        ValueError, match=r"Frozen has no rows of its own: fit the data itself, with --model\.learn False"
    ):
        ControlOf(Frozen(), TensorActivations(torch.ones(20, 2)))


def test_only_data_that_keeps_a_store_can_fill_one(tmp_path):
    with pytest.raises(ValueError, match="TensorActivations keeps no store: give data that does, such as Transformer"):
        fill_store(TensorActivations(torch.eye(4)))

    class Kept(TensorActivations):
        def cache(self):
            return tmp_path

    assert fill_store(Kept(torch.eye(4))) == tmp_path


# --- earlier forms ---------------------------------------------------------------------------------------------------


def test_control_activations_is_gone_and_the_new_form_is_shown():
    with pytest.raises(
        ImportError, match=r"(?s)ControlActivations is gone.*class Halved\(Control\).*def of\(self, sou"
    ):
        from sparsecode_pl.data import ControlActivations  # noqa: F401


def test_a_name_that_never_was_is_none():
    with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
        from sparsecode_pl.data import Nonsense  # noqa: F401


@pytest.mark.parametrize("name", ["parts", "place", "metadata", "origin", "ground_truth"])
def test_data_that_overrides_what_is_gone_is_shown_the_new_form(name):
    with pytest.raises(TypeError, match=rf"(?s)Old defines `{name}`, which is no longer used.*`sources`"):
        type("Old", (ActivationDataModule,), {name: property(lambda self: None), "load": lambda self: None})


def test_a_control_that_takes_a_data_module_is_shown_the_new_form():
    with pytest.raises(TypeError, match=r"(?s)Old.of has source of type ActivationDataModule.*class Halved\(Control\)"):

        class Old(Control):
            def of(self, source: ActivationDataModule) -> ActivationDataModule:
                return source


@pytest.mark.parametrize("name", ["attach", "random_dictionary"])
def test_a_control_with_what_is_gone_is_shown_the_new_form(name):
    with pytest.raises(TypeError, match=rf"(?s)Old defines `{name}`.*`module = "):
        type("Old", (Control,), {name: True})

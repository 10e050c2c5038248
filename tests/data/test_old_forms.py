import pytest

from sparsecode_pl.data import ActivationDataModule, Control


def test_control_activations_is_gone_and_the_new_form_is_shown():
    with pytest.raises(
        ImportError, match=r"(?s)ControlActivations is gone.*class Halved\(Control\).*def of\(self, sou"
    ):
        from sparsecode_pl.data import ControlActivations  # noqa: F401


def test_a_name_that_never_was_is_none():
    with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
        from sparsecode_pl.data import Nonsense  # noqa: F401


@pytest.mark.parametrize("name", ["parts", "place", "metadata", "origin", "ground_truth", "stream"])
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

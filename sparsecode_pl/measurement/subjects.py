"""What a measurement fits: the data, layer by layer, and the controls of each."""

from collections.abc import Sequence
from dataclasses import dataclass

from sparsecode_pl.data import ActivationDataModule, Control, Place, SampledActivations
from sparsecode_pl.module import SparseCodingModule


@dataclass(frozen=True)
class Subject:
    """One data set of a measurement.

    Attributes:
        label: its name in the record.
        title: its name among all subjects.
        data: the activations.
        module: an untrained module of the data's width.
        place: which layer of which model, unlike that of any other measured subject; None where it is none.
        control_of: number of the subject that this is a control of; None where it is itself what is measured.
    """

    label: str
    title: str
    data: ActivationDataModule
    module: SparseCodingModule
    place: Place | None = None
    control_of: int | None = None


def prepare(
    module: SparseCodingModule,
    data: ActivationDataModule | Sequence[ActivationDataModule],
    controls: Sequence[ActivationDataModule] = (),
) -> list[Subject]:
    """List the subjects, and load and check their data before the first fit; only random controls are drawn later.

    Args:
        module: an untrained module of the width of the first data; layers of other width get one of their own width.
        data: what is measured.
        controls: what each is held against.

    Returns:
        Each layer of the data, followed by its controls.

    Raises:
        ValueError: data, controls or module are wrong or do not fit together.
    """
    subjects: list[Subject] = []
    sources = [data] if isinstance(data, ActivationDataModule) else data
    parts = [(number, part) for number, source in enumerate(sources) for part in source.parts()]
    models: dict[str, list[int]] = {}  # the sources that have a model of this name
    for source, part in parts:
        _load(part)
        if not subjects:
            module.check_width(part)
        fitting = module if part.d_model == module.dictionary.shape[1] else module.fresh(d_model=part.d_model)
        number = len(subjects)
        label, place = part.label, part.place
        if place is not None:
            namesakes = models.setdefault(place.model, [])
            if source not in namesakes:
                namesakes.append(source)
            if source != namesakes[0]:
                model = f"{place.model} ({1 + namesakes.index(source)})"
                label, place = f"{model} layer {place.layer}", Place(model, place.layer)
        subjects.append(Subject(label, label, part, fitting, place))
        for control in controls:
            rendering = control.of(part) if isinstance(control, Control) else control
            if not isinstance(rendering, SampledActivations):
                _load(rendering)
            fitting.check_width(rendering)
            random_dictionary = isinstance(control, Control) and control.random_dictionary
            twin = fitting.fresh(learn=False, init="random") if random_dictionary else fitting
            title = control.label if len(parts) == 1 else f"{label}, {control.label}"
            subjects.append(Subject(control.label, title, rendering, twin, place, control_of=number))
    return subjects


def _load(data: ActivationDataModule) -> None:
    data.prepare_data()
    data.setup("fit")

"""The subjects of a measurement: the data, layer by layer, and the controls of each layer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sparsecode_pl.coding import Coder, GreedyCoder, LassoCoder
from sparsecode_pl.data import ActivationDataModule, Control, Place, SampledSource, Source
from sparsecode_pl.data.old_forms import check_made
from sparsecode_pl.measurement.arm import Arm
from sparsecode_pl.measurement.autoencoders import arms_of, find_autoencoders
from sparsecode_pl.module import SparseCodingModule

# Coders of the true features, by the label of the subject.
_TRUE_FEATURES: dict[str, Coder] = {"true features, greedy": GreedyCoder(), "true features, exact": LassoCoder()}


@dataclass(frozen=True)
class Subject:
    """One data set of a measurement.

    Attributes:
        label: its name in the record.
        title: its name among all subjects.
        data: the activations. Call `data.release()` after each fit.
        module: an untrained module of the data's width.
        place: the layer of the model that it comes from, different for every measured subject; None without a model.
        control_of: number of the subject that this is a control of; None if it is a measured subject itself.
        own_rows: whether its rows are those of the measured layer, so that its dictionary can stand in for the layer.
        arm: the codes that are scored, where nothing is trained because an autoencoder gives the dictionary.
    """

    label: str
    title: str
    data: ActivationDataModule
    module: SparseCodingModule
    place: Place | None = None
    control_of: int | None = None
    own_rows: bool = True
    arm: Arm | None = None


def prepare(
    module: SparseCodingModule,
    data: ActivationDataModule | Sequence[ActivationDataModule],
    controls: Sequence[Control] = (),
    truth: bool = False,
    saes: Sequence[str | Path] = (),
) -> list[Subject]:
    """List the subjects, and load and check their data before the first fit. Random rows are drawn when a fit begins.

    Args:
        module: an untrained module of the width of the first data; layers of other widths get one of their own width.
        data: the data to measure.
        controls: the controls of each layer.
        truth: code each layer with its true features, too.
        saes: trained autoencoders, each held beside the layers of its width and place.

    Returns:
        Each layer of the data, followed, with `truth`, by itself with the true features as atoms, which are not
        trained, by the codes of autoencoders, and by its controls.

    Raises:
        ValueError: data, controls, autoencoders or module are wrong or do not fit together, or `truth` is asked for of
            data without.
        TypeError: a control is not a `Control`, or does not return a source.
        OSError: an autoencoder cannot be read.
        ImportError: a package that reads an autoencoder is not installed.
    """
    autoencoders = find_autoencoders(saes)  # what is wrong with them is found before the data are captured
    layers = _tell_apart(list_layers(data))
    arms = arms_of(autoencoders, layers)
    if truth:
        _check_truth(layers)
    subjects: list[Subject] = []
    for layer, own_arms in zip(layers, arms, strict=True):
        layer.data.setup("fit")
        if not subjects:
            module.check_width(layer.data)
        width = layer.data.d_model
        fitting = module if width == module.dictionary.shape[1] else module.fresh(d_model=width)
        number = len(subjects)
        subjects.append(Subject(layer.label, layer.label, layer.data, fitting, layer.place))
        title = "" if len(layers) == 1 else f"{layer.label}, "
        for label, coder in _TRUE_FEATURES.items() if truth else ():
            known = layer.data.source.ground_truth
            num_features = len(known.features) if known is not None else 0
            changed = fitting.fresh(learn=False, init="truth", num_atoms=num_features, coder=coder)
            subjects.append(Subject(label, title + label, layer.data, changed, layer.place, control_of=number))
        for arm in own_arms:
            names = (arm.label, title + arm.label, layer.data, fitting, layer.place)
            subjects.append(Subject(*names, control_of=number, arm=arm))
        given: list[str] = []
        for control in controls:
            rows = _rows_of(control, layer.data.source)
            given.append(control.label)
            namesakes = given.count(control.label)
            label = control.label if namesakes == 1 else f"{control.label} ({namesakes})"
            same = rows is layer.data.source
            held_against = layer.data if same else layer.data.over(rows, control=True)
            if not (same or isinstance(rows, SampledSource)):
                held_against.setup("fit")
            fitting.check_width(held_against)
            changed = fitting.fresh(**control.module) if control.module else fitting
            subjects.append(Subject(label, title + label, held_against, changed, layer.place, number, own_rows=same))
    return subjects


@dataclass(frozen=True)
class Layer:
    """One layer of the data, which is measured by itself.

    Attributes:
        label: its name, different for every layer of a model.
        data: its rows.
        place: the layer of the model that it comes from, different for every layer; None without a model.
    """

    label: str
    data: ActivationDataModule
    place: Place | None


def list_layers(data: ActivationDataModule | Sequence[ActivationDataModule]) -> list[Layer]:
    """The layers of all data. Models of the same name get a number, so that they can be told apart."""
    found: list[Layer] = []
    models: dict[str, list[ActivationDataModule]] = {}  # the data with a model of this name
    for given in [data] if isinstance(data, ActivationDataModule) else data:
        if not isinstance(given, ActivationDataModule):
            raise TypeError(
                f"data has a {type(given).__name__}: give an ActivationDataModule, such as TensorActivations"
            )
        given.prepare_data()
        sources = given.layers
        for source in sources:
            # Data of one layer is used as it is, because a plugin may have changed how it is loaded.
            data = given if len(sources) == 1 else given.over(source)
            label = data.label if given.remove is None else source.label  # a plugin's label does not tell of it
            layer = Layer(label, data, source.place)
            if source.place is not None:
                namesakes = models.setdefault(source.place.model, [])
                if not any(given is other for other in namesakes):
                    namesakes.append(given)
                number = next(i for i, other in enumerate(namesakes, start=1) if given is other)
                if number > 1:
                    place = Place(f"{source.place.model} ({number})", source.place.layer)
                    layer = replace(layer, label=f"{place.model} layer {place.layer}", place=place)
            found.append(layer)
    return found


def _tell_apart(layers: Sequence[Layer]) -> list[Layer]:
    """The layers, with the number of their rows in labels that several share, and a number where that is shared too."""
    shared, taken, found = Counter(layer.label for layer in layers), Counter[str](), []
    for layer in layers:
        label = layer.label if shared[layer.label] == 1 else f"{layer.label}, {len(layer.data.rows):,} rows"
        taken[label] += 1
        found.append(replace(layer, label=label if taken[label] == 1 else f"{label} ({taken[label]})"))
    return found


def _check_truth(layers: Sequence[Layer]) -> None:
    for layer in layers:
        if layer.data.source.ground_truth is None:
            raise ValueError(
                f"truth is true, but {layer.label} has no known answer: leave truth out, or measure data that has one, "
                "such as SparseLinear"
            )


def _rows_of(control: Control, source: Source) -> Source:
    if not isinstance(control, Control):
        raise TypeError(f"controls contain a {type(control).__name__}: give a Control, or data of the same width")
    rows = control.of(source)
    check_made(control, rows, Source)
    return rows

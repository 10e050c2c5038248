"""The JSON that Neuronpedia takes, held against the form that SAEDashboard writes."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sparsecode_pl.analysis.atom import Atom, Band, Example, Token
from sparsecode_pl.interchange.neuronpedia import write_neuronpedia

Ints, Floats, Strings = list[int], list[float], list[str]


class Strict(BaseModel):
    """No other field than these, all of them there, and of just these types."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Activation(Strict):
    bin_min: float
    bin_max: float
    bin_contains: float
    tokens: Strings = Field(min_length=1)  # the reader takes the largest of the values
    values: Floats
    qualifying_token_index: int

    @model_validator(mode="after")
    def lengths(self) -> "Activation":
        if len(self.tokens) != len(self.values) or not 0 <= self.qualifying_token_index < len(self.values):
            raise ValueError("tokens and values differ in length")
        return self


class Logit(Strict):
    token: str
    value: float


class Feature(Strict):
    index: int
    density: float = Field(ge=0, le=1)
    topLogits: list[Logit]  # noqa: N815  Neuronpedia's own names
    bottomLogits: list[Logit]  # noqa: N815
    feature_index: int
    neuron_alignment_indices: Ints
    neuron_alignment_values: Floats
    neuron_alignment_l1: Floats
    correlated_neurons_indices: Ints
    correlated_neurons_l1: Floats
    correlated_neurons_pearson: Floats
    correlated_features_indices: Ints
    correlated_features_l1: Floats
    correlated_features_pearson: Floats
    neg_str: Strings
    neg_values: Floats
    pos_str: Strings
    pos_values: Floats
    frac_nonzero: float = Field(ge=0, le=1)
    freq_hist_data_bar_values: Floats
    freq_hist_data_bar_heights: Floats
    logits_hist_data_bar_heights: Floats
    logits_hist_data_bar_values: Floats
    n_prompts_total: int
    n_tokens_in_prompt: int
    dataset: str
    decoder_weights_dist: Floats
    activations: list[Activation]


class Batch(Strict):
    model_config = ConfigDict(protected_namespaces=())

    model_id: str = Field(min_length=1)
    layer: int
    sae_set: str
    sae_id_suffix: str
    features: list[Feature] = Field(min_length=1, max_length=128)


def refuse(name: str) -> None:
    raise ValueError(name)


def batch(path) -> Batch:
    json.loads(path.read_text(), parse_constant=refuse)  # NaN and infinities
    return Batch.model_validate_json(path.read_text())


TOP = Example(
    5, 2.0, (Token("[CLS]", 0.0), Token("The", 0.0), Token(" moon\n", 2.0), Token(" </script>", 0.51239)), place=2
)
WEAK = [Example(row, value, (Token(" sun", value),)) for row, value in ((6, 0.5), (7, 0.25))]
ATOM = Atom(
    index=0,
    count=3,
    frequency=0.3,
    mean=0.9,
    largest=2.0,
    histogram=(2, 1),
    top=(TOP, Example(8, 1.0)),
    bands=(Band(0.25, 0.75, tuple(WEAK)),),
    promoted=((" moon", 1.25), (" sun", 0.5)),
    suppressed=((" of", -0.5),),
)


@dataclass(frozen=True)
class Source:
    atom: Callable[[int], Atom]
    num_atoms: int
    label: str = "layer 3"
    rows: str = "held-out rows"
    num_rows: int = 10
    lam: float = 0.1
    edges: tuple[float, ...] = (0.01, 1.0, 100.0)
    stability_chance: float | None = None


def source(num_atoms: int = 1, **changes) -> Source:
    return Source(lambda index: replace(ATOM, index=index, **changes), num_atoms)


def test_an_atom_as_neuronpedia_takes_it(tmp_path):
    [path] = write_neuronpedia(tmp_path / "new", source(), "gpt2-small", 3, "res-16k", "me/texts")
    read = batch(path)
    assert path == tmp_path / "new/batch-000.json"
    assert (read.model_id, read.layer, read.sae_set, read.sae_id_suffix) == ("gpt2-small", 3, "res-16k", "")
    [feature] = read.features
    assert (feature.feature_index, feature.frac_nonzero, feature.dataset) == (0, 0.3, "me/texts")
    assert (feature.index, feature.density) == (0, 0.3)
    assert [(one.token, one.value) for one in feature.topLogits] == [(" moon", 1.25), (" sun", 0.5)]
    assert [(one.token, one.value) for one in feature.bottomLogits] == [(" of", -0.5)]
    assert (feature.pos_str, feature.pos_values) == ([" moon", " sun"], [1.25, 0.5])
    assert (feature.neg_str, feature.neg_values) == ([" of"], [-0.5])
    assert feature.freq_hist_data_bar_values == [0.1, 10.0]
    assert feature.freq_hist_data_bar_heights == [2.0, 1.0]
    top, *weak = feature.activations
    assert top.tokens == ["[CLS]", "The", " moon\n", " </script>"]
    assert top.values == [0.0, 0.0, 2.0, 0.5124]
    assert (top.qualifying_token_index, top.bin_min, top.bin_max, top.bin_contains) == (2, -1.0, 2.0, -1.0)
    assert [(one.values, one.bin_min, one.bin_max, one.bin_contains) for one in weak] == [
        ([0.5], 0.25, 0.5, 0.5),
        ([0.25], 0.25, 0.5, 0.5),
    ]


def test_batches_hold_all_atoms_in_order(tmp_path):
    paths = write_neuronpedia(tmp_path, source(300))
    assert [path.name for path in paths] == ["batch-000.json", "batch-001.json", "batch-002.json"]
    batches = [batch(path) for path in paths]
    assert [len(each.features) for each in batches] == [128, 128, 44]
    assert [feature.feature_index for each in batches for feature in each.features] == list(range(300))
    assert batches[0].model_id == "layer 3"


def test_an_atom_that_is_never_active_is_written(tmp_path):
    dead = {"count": 0, "frequency": 0.0, "mean": 0.0, "largest": 0.0, "histogram": (0, 0), "top": (), "bands": ()}
    [feature] = batch(write_neuronpedia(tmp_path, source(**dead))[0]).features
    assert (feature.frac_nonzero, feature.activations) == (0.0, [])


def test_batches_of_an_earlier_time_are_replaced(tmp_path):
    write_neuronpedia(tmp_path, source(300))
    (tmp_path / "notes.txt").write_text("mine")
    write_neuronpedia(tmp_path, source(1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch-000.json", "notes.txt"]


@pytest.mark.parametrize("text", ["\x00", "\ud800", "\u2028", '"', "\\", "é", "👩"])
def test_any_token_can_be_written(tmp_path, text):
    top = (Example(0, 1.0, (Token(text, 1.0),)),)
    [path] = write_neuronpedia(tmp_path, source(top=top, bands=()))
    [feature] = json.loads(path.read_text())["features"]
    assert feature["activations"][0]["tokens"] == [text]


def test_a_number_that_json_does_not_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_neuronpedia(tmp_path, source(promoted=((" moon", math.nan),)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"layer": -1}, "layer is -1: give 0 or more"), ({"source_set": ""}, 'source_set is "": give the name')],
)
def test_arguments_are_checked_first(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        write_neuronpedia(tmp_path / "new", source(), **wrong)
    assert not (tmp_path / "new").exists()

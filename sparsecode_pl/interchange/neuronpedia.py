"""Features as Neuronpedia takes them: JSON of the form that SAEDashboard writes.

The form is that of `sae_dashboard/neuronpedia/neuronpedia_dashboard.py` in github.com/jbloomAus/SAEDashboard. What
reads it is `convert-saedashboard-to-neuronpedia-export.py` of github.com/hijohnnylin/neuronpedia, which fails where a
field is left out, and makes of it what Neuronpedia imports. Number, density and logits stand there a second time under
the names that Neuronpedia itself has for them: index, density, topLogits and bottomLogits.
"""

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from sparsecode_pl.analysis.atom import Atom, Band, Example
from sparsecode_pl.analysis.pages import AtomSource

#: Features in one file, at most.
BATCH = 128
_DIGITS = 4  # significant ones, of coefficients
# Of these, nothing is known of an atom. Their readers take empty lists.
_EMPTY = (
    *("neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1"),
    *("correlated_neurons_indices", "correlated_neurons_l1", "correlated_neurons_pearson"),
    *("correlated_features_indices", "correlated_features_l1", "correlated_features_pearson"),
    *("logits_hist_data_bar_heights", "logits_hist_data_bar_values", "decoder_weights_dist"),
)


def write_neuronpedia(
    folder: str | Path,
    source: AtomSource,
    model: str | None = None,
    layer: int = 0,
    source_set: str = "sparsecode-pl",
    dataset: str = "",
) -> list[Path]:
    """Write the atoms as `batch-000.json`, `batch-001.json` ..., at most 128 atoms in each.

    Atoms that are never active are written too, so that an atom's place is its number. Examples without text are left
    out. Of a band, `bin_contains` is the share of the atom's activations in it, `bin_min` and `bin_max` are the
    smallest and the largest coefficient among its examples. A row counts as a prompt of one token.

    Args:
        folder: made if need be. Batches in it are replaced, other files stay.
        source: gives the atoms.
        model: Neuronpedia's name of the model, such as "gpt2-small"; the name of the data if None.
        layer: number of the layer that the rows are of.
        source_set: Neuronpedia's name of the set of dictionaries that this one belongs to, such as "res-16k".
        dataset: where the text is from, such as the name of a data set on the Hugging Face hub.

    Returns:
        The files, in order.

    Raises:
        ValueError: `source_set` is empty, `layer` is negative, or a number of an atom is NaN or infinite,
            which JSON does not have.
        OSError: the folder cannot be written.
    """
    if not source_set:
        raise ValueError('source_set is "": give the name that Neuronpedia is to show')
    if layer < 0:
        raise ValueError(f"layer is {layer}: give 0 or more")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("batch-*.json"):
        old.unlink()
    head = {
        "model_id": source.label if model is None else model,
        "layer": layer,
        "sae_set": source_set,
        "sae_id_suffix": "",
    }
    written = []
    for number, indices in enumerate(_batches(source.num_atoms)):
        features = [_feature(source.atom(index), source, dataset) for index in indices]
        path = folder / f"batch-{number:03d}.json"
        content = json.dumps({**head, "features": features}, allow_nan=False, separators=(",", ":"))
        path.write_text(content, encoding="utf-8", newline="\n")
        written.append(path)
    return written


def _batches(num_atoms: int) -> Iterator[range]:
    for start in range(0, num_atoms, BATCH):
        yield range(start, min(start + BATCH, num_atoms))


def _feature(atom: Atom, source: AtomSource, dataset: str) -> dict[str, Any]:
    centres = [
        _number(math.sqrt(left * right) if left > 0 else (left + right) / 2) for left, right in pairwise(source.edges)
    ]
    top = [_activation(example, -1.0, atom.largest, -1.0) for example in atom.top if example.tokens]
    return {
        "index": atom.index,
        "density": _number(atom.frequency),
        "topLogits": [{"token": token, "value": _number(value)} for token, value in atom.promoted],
        "bottomLogits": [{"token": token, "value": _number(value)} for token, value in atom.suppressed],
        "feature_index": atom.index,
        **{name: [] for name in _EMPTY},
        "neg_str": [token for token, _ in atom.suppressed],
        "neg_values": [_number(value) for _, value in atom.suppressed],
        "pos_str": [token for token, _ in atom.promoted],
        "pos_values": [_number(value) for _, value in atom.promoted],
        "frac_nonzero": _number(atom.frequency),
        "freq_hist_data_bar_values": centres,
        "freq_hist_data_bar_heights": [float(count) for count in atom.histogram],
        "n_prompts_total": source.num_rows,
        "n_tokens_in_prompt": 1,
        "dataset": dataset,
        "activations": top + [activation for band in atom.bands for activation in _of_band(band)],
    }


def _of_band(band: Band) -> list[dict[str, Any]]:
    values = [example.value for example in band.examples]
    return [
        _activation(example, min(values), max(values), band.high - band.low)
        for example in band.examples
        if example.tokens
    ]


def _activation(example: Example, low: float, high: float, share: float) -> dict[str, Any]:
    """One text.

    SAEDashboard marks the strongest examples by a `bin_min` and a `bin_contains` of -1.
    """
    values = [_number(token.value) for token in example.tokens]
    values[example.place] = _number(example.value)
    return {
        "bin_min": _number(low),
        "bin_max": _number(high),
        "bin_contains": _number(share),
        "tokens": [token.text for token in example.tokens],
        "values": values,
        "qualifying_token_index": example.place,
    }


def _number(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")

"""The same architecture with weights that are random, all or in part."""

import json
from pathlib import Path
from typing import Any

from sparsecode_pl.data import Control, Derived, Source
from sparsecode_transformer.layer_source import LayerSource, LayerStream
from sparsecode_transformer.random_weights import Randomise, check_randomise
from sparsecode_transformer.transformer_activations import TransformerActivations

_MADE_BY = (".TransformerActivations", ".HookedTransformer")  # the second is its name in older stores


class RandomModel(Control):
    """The same layers of the same model on the same text, with random weights.

    What sparsity it has comes from the architecture and the text, not from what the model has learnt. One forward pass
    serves all layers that are measured.

    There are three kinds, akin to those of arXiv 2501.17727. "all" is the model before training, there "Step-0".
    "all_but_embeddings" keeps what the model has learnt of each token by itself, there "re-randomized excluding
    embeddings". "shuffled" keeps how large the weights are; there the weights are drawn from a Gaussian with the mean
    and the variance of each matrix instead.

    Args:
        store: folder for the activation stores of the random models; None keeps their activations in memory.
        seed: of the weights.
        randomise: what is random. "all": all weights, drawn by the model's own initialiser. "all_but_embeddings": the
            same, but the weights that hidden state 0 depends on are the trained ones: embeddings of tokens, of
            positions and of token types, and a norm or projection after them. "shuffled": all weights have their
            trained values, but in a random order within each matrix, bias or scale of a norm.

    Raises:
        ValueError: the seed is negative, or there is no such kind.
    """

    rules_out = "Rules out that architecture and text explain the score, without what the model has learnt."

    def __init__(self, store: str | None = None, seed: int = 0, randomise: Randomise = "all") -> None:
        if seed < 0:
            raise ValueError(f"seed is {seed}: give an integer of at least 0")
        check_randomise(randomise, seed)
        self.store = store
        self.seed = seed
        self.randomise = randomise
        self._models: dict[str, dict[str, Source]] = {}

    @property
    def label(self) -> str:
        """The name of the class, and what is random if it is not all."""
        name = super().label
        return name if self.randomise == "all" else f"{name}, {self.randomise.replace('_', ' ')}"

    def of(self, source: Source) -> Source:
        """The same layer of the random model.

        Raises:
            ValueError: the source is not a layer whose activations `TransformerActivations` captured.
        """
        if isinstance(source, Derived):
            return source.again(self.of(source.source))
        provenance, place = source.provenance, source.place
        if place is None or not str(provenance.get("class_path")).endswith(_MADE_BY):
            raise ValueError(
                "RandomModel is a control of TransformerActivations, or of a store that it filled, but "
                f"{source.label} is none: leave RandomModel out"
            )
        settings = {
            **provenance["init_args"],
            "num_activations": len(source.rows),
            "max_norm_ratio": None,  # its norms are of another kind; the tokens are the same except for those
            "random_weights": self.seed,
            "randomise": self.randomise,
            "store": None if self.store is None else str(Path(self.store) / place.model),
            **_settings_of_capture(source),
        }
        layers = self._layers(settings)
        if place.layer not in layers:
            raise ValueError(
                f"layer is {place.layer!r}, but {settings['model_name_or_path']} has {', '.join(layers)}: it is no "
                "longer the model from which the store was made, so leave RandomModel out"
            )
        return layers[place.layer]

    def _layers(self, settings: dict[str, Any]) -> dict[str, Source]:
        """The layers of a random model by their names, made once."""
        key = json.dumps(settings, sort_keys=True)
        if key not in self._models:
            sources = TransformerActivations(**settings).sources()
            self._models[key] = {source.place.layer: source for source in sources if source.place is not None}
        return self._models[key]


def _settings_of_capture(source: Source) -> dict[str, Any]:
    """How the activations were captured, if that is not part of their provenance."""
    if not isinstance(source, LayerSource):
        return {}
    settings: dict[str, Any] = {"device": source.capture.device}
    if isinstance(source.stream, LayerStream):
        stream = source.stream
        settings |= {"stream": True, "buffer_size": stream.buffer_size, "refill_share": stream.refill_share}
        settings |= {"batch_size": 1, "seed": stream.seed}
    return settings

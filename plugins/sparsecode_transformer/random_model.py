"""The same architecture with random weights."""

import json
from pathlib import Path
from typing import Any

from sparsecode_pl.data import ActivationDataModule, ActivationStore, Control, TensorActivations
from sparsecode_transformer.hooked_transformer import HookedTransformer


class RandomModel(Control):
    """The same layers of the same model on the same text, its weights drawn anew by its own initialiser.

    What sparsity it has comes from the architecture and the text, not from what the model has learnt. One forward pass
    serves all layers that are measured.

    Args:
        store: folder for the activation stores of the random models, one each; None keeps their activations in memory.
        seed: of the weights.
        kwargs: of no use: batches, rounds and split are those of the measured data.

    Raises:
        ValueError: the measured data is not a layer that `HookedTransformer` heard.
    """

    def __init__(self, store: str | None = None, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(seed=seed, **kwargs)
        self.store = store
        self._models: dict[str, dict[str, ActivationDataModule]] = {}

    def of(self, source: ActivationDataModule) -> ActivationDataModule:
        """The same layer of the random model."""
        origin, place = source.origin or {}, source.place
        if place is None or not str(origin.get("class_path")).endswith(".HookedTransformer"):
            raise ValueError(
                f"RandomModel is a control of HookedTransformer, or of a store that it filled, but {source.label} is "
                "none: leave RandomModel out"
            )
        subset, num = None, len(source.rows)
        if isinstance(source, ActivationStore):
            subset, num = source.subset, source.num_stored
        settings = {
            **origin["init_args"],
            "num_activations": num,
            "max_norm_ratio": None,  # its norms are of another kind; the tokens are the same but for those
            "random_weights": self.seed,
            "store": None if self.store is None else str(Path(self.store) / place.model),
            "batch_size": source.batch_size,
            "batches_per_round": source.batches_per_round,
            "val_split": source.val_split,
            "seed": source.seed,
        }
        if isinstance(source, HookedTransformer):
            settings |= {name: getattr(source, name) for name in ("device", "stream", "buffer_size", "refill_share")}
        key = json.dumps(settings, sort_keys=True)
        if key not in self._models:
            self._models[key] = {part.place.layer: part for part in HookedTransformer(**settings).parts() if part.place}
        layers = self._models[key]
        if place.layer not in layers:
            raise ValueError(
                f"layer is {place.layer!r}, but {settings['model_name_or_path']} has {', '.join(layers)}: it is no "
                "longer the model that the store was made of, so leave RandomModel out"
            )
        layer = layers[place.layer]
        if subset is None:
            return layer
        batches = {name: settings[name] for name in ("batch_size", "batches_per_round", "val_split", "seed")}
        return TensorActivations(layer.rows[subset], name=layer.label, **batches)

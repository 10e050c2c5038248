"""The input embedding matrix of a model, read without the rest of the model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparsecode_transformer.errors import config_errors, weight_errors
from sparsecode_transformer.model_files import model_file

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class InputEmbeddings:
    """The input embeddings of a model, located by its configuration alone, before any weight is read.

    No code of the model's repository is ever run.

    Args:
        model: a folder, or a name on the hub.
        revision: branch, tag or commit on the hub.

    Raises:
        OSError: the model cannot be reached.
        ValueError: transformers does not have its architecture, or it has no input embeddings.

    Attributes:
        parameter: the name of the parameter.
        shape: (vocabulary, d_model).
    """

    def __init__(self, model: str, revision: str | None = None) -> None:
        self.model = model
        self.revision = revision
        skeleton = self._skeleton()
        try:
            module = skeleton.get_input_embeddings()
        except (NotImplementedError, AttributeError):
            module = None
        if not isinstance(module, torch.nn.Embedding):
            raise ValueError(
                f"model_name_or_path is {model!r}, and this {type(skeleton).__name__} has no input embeddings: give a "
                "model whose input is tokens"
            )
        names = (name for name, parameter in skeleton.named_parameters() if parameter is module.weight)
        self.parameter = next(names, "")
        self.shape = (module.weight.shape[0], module.weight.shape[1])

    def read(self) -> Tensor:
        """The matrix, (vocabulary, d_model), as it is stored.

        Raises:
            OSError: the weights cannot be reached.
            ValueError: the model's files do not hold the matrix.
        """
        weight = self._read_alone()
        return self._read_with_model() if weight is None else weight

    def _skeleton(self) -> "PreTrainedModel":
        """The model without its weights."""
        from transformers import AutoConfig, AutoModel

        with config_errors(self.model, self.revision):
            config = AutoConfig.from_pretrained(self.model, revision=self.revision, trust_remote_code=False)
            with torch.device("meta"):
                model: PreTrainedModel = AutoModel.from_config(config, trust_remote_code=False)
        return model

    def _read_alone(self) -> Tensor | None:
        """The matrix from the one safetensors file that holds it; None if it cannot be identified there."""
        from safetensors import safe_open

        index = model_file(self.model, "model.safetensors.index.json", self.revision)
        if index is None:
            shards = ["model.safetensors"]
        else:
            weight_map = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"]
            shards = sorted({shard for name, shard in weight_map.items() if self._is_stored_as(name)})
        path = model_file(self.model, shards[0], self.revision) if len(shards) == 1 else None
        if path is None:
            return None
        with safe_open(path, framework="pt") as tensors:
            names = [name for name in tensors.keys() if self._is_stored_as(name)]  # noqa: SIM118
            weight = tensors.get_tensor(names[0]) if len(names) == 1 else None
        plain = weight is not None and weight.is_floating_point() and tuple(weight.shape) == self.shape
        return weight if plain else None

    def _is_stored_as(self, name: str) -> bool:
        """Whether the name is that of the parameter, with or without the prefix of a model with a head."""
        return name == self.parameter or name.endswith("." + self.parameter) or self.parameter.endswith("." + name)

    def _read_with_model(self) -> Tensor:
        """The matrix from the whole model, as transformers loads it."""
        from transformers import AutoModel

        with weight_errors(self.model):
            model, loaded = AutoModel.from_pretrained(
                self.model, revision=self.revision, trust_remote_code=False, output_loading_info=True
            )
        if self.parameter in loaded["missing_keys"]:  # transformers has drawn it at random
            raise ValueError(
                f"model_name_or_path is {self.model!r}, and its files hold no input embeddings ({self.parameter} "
                "is missing): give a folder or a revision with the weights of the whole model"
            )
        weight: Tensor = model.get_input_embeddings().weight.detach()
        return weight

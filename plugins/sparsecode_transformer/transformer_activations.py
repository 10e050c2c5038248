"""Activations of a transformer's layers on text."""

from pathlib import Path
from typing import Any

from sparsecode_pl.data import ActivationDataModule, Source
from sparsecode_transformer.layer_source import LayerSource, model_label
from sparsecode_transformer.random_weights import Randomise
from sparsecode_transformer.recipe import Recipe
from sparsecode_transformer.sites import SiteKind
from sparsecode_transformer.text_capture import TextCapture


class TransformerActivations(ActivationDataModule):
    """Activations of any layers of a Hugging Face transformer on a text, one row a token.

    One forward pass over the text captures the activations of all layers. They are kept in memory, or in a store on
    disk. Padding is left out, and special tokens too unless you ask for them. Activations are float32, whatever dtype
    the model computes in. `sparsecode measure` takes several layers and learns a dictionary for each; `sparsecode fit`
    takes one. Whole documents are held out, and some token types are left out of training altogether.

    With `stream`, activations are computed on the fly during training and mixed through a buffer. The first
    `num_activations` of the text are then only scored. Each of several GPUs captures its own part of the text. So the
    order of the activations depends on the number of GPUs, and with it the dictionary; each activation comes as often
    in expectation. All other data give the same batches on any number of GPUs.

    Args:
        model_name_or_path: a name on the Hugging Face hub, a local folder, or `package:NAME/sub/folder` for a folder
            inside an installed Python package.
        text: a local .txt (a document a line), .jsonl or .parquet file, or a data set on the hub, `NAME` or
            `NAME:CONFIG`.
        layers: "all"; indices of hidden states, 0 after the embeddings and the last after the final norm; names of
            modules with wildcards, such as "model.layers.*.mlp"; or a list of these.
        site: what an index means: a hidden state ("residual"), or of a block the output of the MLP ("mlp") or the
            attention ("attention"), or the activations inside the MLP ("mlp_hidden").
        num_activations: number of activations of each layer, the first of the text; None takes all that it gives.
        store: folder of the activation store, from which later runs read; None keeps the activations in memory.
        split: of the data set.
        text_column: column of the text.
        streaming: read a data set of the hub without downloading all of it.
        max_documents: read at most this many documents.
        text_revision: branch, tag or commit of the data set on the hub.
        context_length: maximum number of tokens in a sequence; longer documents are cut.
        packing: join documents, and cut them into sequences of this length.
        keep_special: include special tokens (BOS, CLS, SEP ...).
        skip_first: leave out this many positions at the start of each sequence.
        max_norm_ratio: leave out tokens whose norm at any layer exceeds this multiple of the median there.
        revision: branch, tag or commit of the model on the hub.
        dtype: in which the model computes: "float32", "bfloat16" or "float16".
        device: where the model computes; "auto" is the GPU if there is one.
        trust_remote_code: run code of the model's repository.
        random_weights: a seed of random weights; None takes the trained ones.
        randomise: what is random with `random_weights`. "all": all weights, drawn by the model's own initialiser as
            before training. "all_but_embeddings": the same, but the weights that hidden state 0 depends on are the
            trained ones: embeddings of tokens, of positions and of token types, and a norm or projection after them.
            "shuffled": all weights have their trained values, but in a random order within each matrix, bias or scale
            of a norm.
        batch_tokens: maximum number of tokens in a forward pass, padding included.
        store_dtype: of the activations in the store: "float32", "bfloat16" or "float16".
        shard_rows: approximate number of activations in a shard, within which sequences are sorted by length; an
            interrupted store is resumed after its last shard.
        stream: train on fresh activations instead of those that are scored.
        buffer_size: activations in the buffer of the stream.
        refill_share: share of the buffer that is given out before the buffer is filled again, in (0, 1].
        kwargs: the arguments of `ActivationDataModule`.

    Raises:
        FileNotFoundError: the model's folder or the text's file is not there.
        ValueError: an argument is out of its range.

    Example:
        >>> data = TransformerActivations("EleutherAI/pythia-70m", "wikitext:wikitext-2-raw-v1", layers=3)
        >>> data.label  # nothing is loaded yet
        'pythia-70m layers 3'
    """

    def __init__(
        self,
        model_name_or_path: str,
        text: str,
        layers: int | str | list[int | str] = "all",
        site: SiteKind = "residual",
        num_activations: int | None = 100_000,
        store: str | None = None,
        split: str = "train",
        text_column: str = "text",
        streaming: bool = False,
        max_documents: int | None = None,
        text_revision: str | None = None,
        context_length: int = 256,
        packing: bool = False,
        keep_special: bool = False,
        skip_first: int = 0,
        max_norm_ratio: float | None = None,
        revision: str | None = None,
        dtype: str = "float32",
        device: str = "auto",
        trust_remote_code: bool = False,
        random_weights: int | None = None,
        randomise: Randomise = "all",
        batch_tokens: int = 4096,
        store_dtype: str = "float32",
        shard_rows: int = 65_536,
        stream: bool = False,
        buffer_size: int = 65_536,
        refill_share: float = 0.5,
        **kwargs: Any,
    ) -> None:
        settings = {name: value for name, value in locals().items() if name in Recipe.__dataclass_fields__}
        super().__init__(**kwargs)
        if not 0 < refill_share <= 1:
            raise ValueError(f"refill_share is {refill_share}: give a share in (0, 1]")
        if stream and self.num_workers:
            raise ValueError(
                f"num_workers is {self.num_workers}, but the main process computes the activations of a stream: give 0"
            )
        if buffer_size < self.batch_size:
            raise ValueError(f"buffer_size is {buffer_size}: give at least batch_size, which is {self.batch_size}")
        self._capture = TextCapture(Recipe(**settings), store, device, stream)
        self._buffer = buffer_size, refill_share
        self._layers: list[Source] | None = None

    def sources(self) -> list[Source]:
        """One source for each layer; they share the forward pass."""
        if self._layers is None:
            self._layers = [LayerSource(self._capture, name, *self._buffer, self.seed) for name in self._capture.widths]
        return self._layers

    def layer(self, name: str) -> Source:
        """The activations of one layer; the model is not loaded before they are needed."""
        return LayerSource(self._capture, name, *self._buffer, self.seed)

    @property
    def label(self) -> str:
        """The name of the model, and the layers that were asked for."""
        if self._layers is not None and len(self._layers) == 1:
            return self.layers[0].label
        layers = self._capture.recipe.layers
        which = ", ".join(map(str, layers if isinstance(layers, list) else [layers]))
        return f"{model_label(self._capture)} layers {which}"

    def prepare_data(self) -> None:
        """Fill the store, on the first process of each machine; does nothing without a store."""
        if self._capture.store is not None:
            self._capture.capture()

    def cache(self) -> Path:
        """Fill the store, and return its folder.

        Raises:
            ValueError: `store` is not given.
        """
        if self._capture.store is None:
            raise ValueError("store is missing: give the folder in which the activations are to be kept")
        self._capture.capture()
        return self._capture.store

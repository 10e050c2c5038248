"""A transformer that reads a text again, with what passes at one of its layers replaced."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsecode_pl.data import Passage, Replace
from sparsecode_transformer.activation_capture import ActivationCapture
from sparsecode_transformer.batches import Batch, length_batches
from sparsecode_transformer.replacing import Replacing
from sparsecode_transformer.sequence_capture import within_limits
from sparsecode_transformer.sites import Site, find_sites
from sparsecode_transformer.text_capture import TextCapture
from sparsecode_transformer.whole_model import Kind

#: Logits of a batch, at most: 512 MiB of float32.
_MOST_LOGITS = 2**27


class ModelRerun:
    """The model behind a layer, and the text that its rows come from; a `sparsecode_pl.data.Rerun`.

    Nothing is loaded, and no activation captured, before it is asked for.

    Args:
        capture: the activations of the text.
        layer: name of the layer.
    """

    def __init__(self, capture: TextCapture, layer: str) -> None:
        self._capture, self._layer = capture, layer

    @property
    def kind(self) -> Kind:
        """Whether the output is logits of the next token, or a vector for each token."""
        return self._capture.whole.kind

    def check(self) -> None:
        """Load the model, and look for the layer in it.

        Raises:
            OSError: the model cannot be reached or read.
            ValueError: its files lack some weights, such as those of the head, or it has no such layer.
        """
        _ = self._capture.whole, self.site

    @cached_property
    def site(self) -> Site:
        """Where the layer is in the body of the model."""
        recipe = self._capture.recipe
        sites = find_sites(self._capture.whole.body, recipe.layers, recipe.site)
        found = next((site for site in sites if site.name == self._layer), None)
        if found is None:
            there = ", ".join(site.name for site in sites)
            raise ValueError(
                f"layer is {self._layer!r}, but {recipe.model_name_or_path} has {there}: it is no longer the model "
                "that the activations are from, so leave loss out"
            )
        return found

    def passages(self, documents: Tensor) -> Iterator[Passage]:
        """The sequences that hold tokens of some documents, the longest first.

        With packing a sequence may hold other documents too, whose activations are replaced, but not judged. Tokens
        that are left out for their norm are not replaced. What is judged depends on the text alone: in a causal model,
        the predictions of the tokens that count from a token of the same document before them; in an encoder, the
        outputs at the tokens that count.

        Args:
            documents: their numbers in the column `document`, (k,) int64.

        Raises:
            ValueError: there is no document, or the text has none of these numbers.
        """
        capture, kind = self._capture, self.kind
        text = capture.sequences
        wanted = np.unique(documents.numpy())
        if len(wanted) == 0:
            raise ValueError("documents are none: give the number of at least one")
        missing = wanted[~np.isin(wanted, text.document)].tolist()
        if missing:
            raise ValueError(
                f"documents has {missing[0]}, but those of the text are {text.document.min()} to "
                f"{text.document.max()}: give numbers that stand in the column document"
            )
        sequence = np.repeat(np.arange(len(text)), np.diff(text.starts))
        which = np.unique(sequence[np.isin(text.document, wanted)])
        pad_id = capture.tokenizer.pad_token_id or 0
        with self._outliers() as usual:
            for batch in length_batches(text, which, self._batch_tokens(), pad_id):
                real = batch.attention_mask.bool()
                counts = torch.from_numpy(text.keep)[batch.places] & real
                document = torch.from_numpy(text.document)[batch.places].long()
                judged = counts & torch.isin(document, torch.from_numpy(wanted))
                if kind == "causal":
                    follows = judged[:, 1:] & (document[:, 1:] == document[:, :-1])
                    judged = torch.cat([follows, torch.zeros_like(judged[:, :1])], dim=1)
                replaced = torch.zeros_like(real)
                replaced.view(-1)[usual(batch)] = True
                yield Passage(batch.input_ids, batch.attention_mask, replaced, judged, document)

    def _batch_tokens(self) -> int:
        vocabulary = getattr(self._capture.whole.model.config.get_text_config(), "vocab_size", None) or 1
        most = _MOST_LOGITS // vocabulary if self.kind == "causal" else self._capture.recipe.batch_tokens
        return max(1, min(self._capture.recipe.batch_tokens, most))

    @contextmanager
    def _outliers(self) -> Iterator[Callable[[Batch], Tensor]]:
        """What tells which activations of a batch are rows, as indices of the flattened batch."""
        capture = self._capture
        if capture.recipe.max_norm_ratio is None:
            yield lambda batch: batch.kept
            return
        body = capture.whole.body
        hooks = ActivationCapture(body, find_sites(body, capture.recipe.layers, capture.recipe.site))
        whole_text = capture.sequence_capture(hooks)
        with hooks:
            limits = whole_text.limits() or {}

        def usual(batch: Batch) -> Tensor:
            with hooks:  # closed while the model runs with replacements
                states = hooks(batch.input_ids, batch.attention_mask)
            rows = {name: each.flatten(0, 1)[batch.kept] for name, each in states.items()}
            return batch.kept[within_limits(rows, limits)]

        yield usual

    @torch.no_grad()
    def __call__(self, passage: Passage, replace: Replace | None = None) -> Tensor:
        """One forward pass, with the activations at `passage.replaced` replaced if `replace` is given.

        The activations are handed over as float32, and what comes back is used in the model's dtype.

        Returns:
            Logits (b, s, V) of a causal model, or output vectors (b, s, d) of an encoder, float32.

        Raises:
            ValueError: the layer is passed never or twice in a pass, or what comes back has another shape.
        """
        whole = self._capture.whole
        device = whole.model.device
        takes_cache = "use_cache" in inspect.signature(whole.model.forward).parameters
        options: dict[str, Any] = {"use_cache": False} if takes_cache else {}
        hook: AbstractContextManager[Any] = nullcontext()
        if replace is not None:
            hook = Replacing(whole.body, self.site, passage.replaced.to(device), replace)
        with hook:
            output = whole.model(
                input_ids=passage.input_ids.to(device), attention_mask=passage.attention_mask.to(device), **options
            )
        found: Tensor = output[0]  # logits, or the last hidden state
        return found.float()

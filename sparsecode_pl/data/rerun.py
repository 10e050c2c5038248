"""A model that is run again with what passes at one of its layers replaced."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

#: Takes activations of a layer, (k, d_model) float32, and gives what passes in their place, of the same shape.
Replace = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Passage:
    """A batch of token sequences that a model reads, and which of its outputs are judged.

    Attributes:
        input_ids: (b, s) int64, padded on the right.
        attention_mask: (b, s) int64, 0 at padding.
        replaced: mask of the activations that are replaced, those that count as rows, (b, s) bool; never padding or
            special tokens, unless these are rows.
        judged: of a causal model, mask of the positions whose next token is predicted, (b, s) bool; of an encoder,
            those whose output vectors are compared. It depends on the text alone, so that it is the same whatever is
            replaced.
        document: the document of each position, (b, s) int64; any at padding.
    """

    input_ids: Tensor
    attention_mask: Tensor
    replaced: Tensor
    judged: Tensor
    document: Tensor


class Rerun(Protocol):
    """A model, and the text that rows come from. What is loaded for it is freed by `Source.release`."""

    @property
    def kind(self) -> Literal["causal", "encoder"]:
        """Whether its output is logits of the next token, or a vector for each token."""

    def check(self) -> None:
        """Load the model, to find out before long work whether it can be run.

        Raises:
            OSError: the model cannot be reached or read.
            ValueError: it lacks something, such as the weights of its head.
        """

    def passages(self, documents: Tensor) -> Iterator[Passage]:
        """The text of some documents, given by their numbers in the column `document`, (k,) int64.

        What is judged is in these documents alone; replaced is whatever counts as a row.

        Raises:
            ValueError: there is no document, or no such one.
        """

    def __call__(self, passage: Passage, replace: Replace | None = None) -> Tensor:
        """One forward pass, with the activations at `passage.replaced` replaced if `replace` is given.

        Returns:
            Logits (b, s, V) of a causal model, or output vectors (b, s, d) of an encoder, float32.
        """

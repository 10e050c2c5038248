"""How far a model's output is from what it was: cross-entropy and KL, or the cosine of output vectors."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from sparsecode_pl.data import Passage, Rerun

# Logits that are worked on at a time, 16 MiB of float32.
_CHUNK = 2**22


class Output:
    """The output of a model on a passage as it is, for comparison with what it is when activations are replaced.

    Args:
        rerun: the model.
        passage: what it reads.

    Attributes:
        clean: what is added up of the output itself, see `compare`.
    """

    def __init__(self, rerun: Rerun, passage: Passage) -> None:
        self._causal = rerun.kind == "causal"
        self._judged = passage.judged
        found = self._judged_of(rerun(passage))
        if self._causal:
            after = passage.input_ids.roll(-1, dims=1)  # a last position is never judged
            self._targets = after[passage.judged].to(found.device)
            for chunk in _chunks(found):
                chunk.copy_(chunk.log_softmax(dim=-1))
            self._output = found
            loss = self._cross_entropy(found)
            self.clean = torch.stack([loss, torch.zeros_like(loss)], dim=1)
        else:
            self._output = found.double()
            self.clean = torch.ones(len(found), 1, dtype=torch.float64)

    def compare(self, replaced: Tensor) -> Tensor:
        """What is added up of another output, (b, s, V) or (b, s, d).

        Returns:
            For each position that is judged, (k, C) float64: of a causal model, cross-entropy with the next token and
            KL(clean || replaced), in nats; of an encoder, the cosine of the two vectors.
        """
        found = self._judged_of(replaced)
        if not self._causal:
            cosine = torch.nn.functional.cosine_similarity(self._output, found.double(), dim=-1)
            return cosine[:, None].cpu()
        divergence = []
        for chunk, clean in zip(_chunks(found), _chunks(self._output), strict=True):
            chunk.copy_(chunk.log_softmax(dim=-1))
            each = kl_div(chunk, clean, reduction="none", log_target=True).sum(dim=-1)
            divergence.append(each.double().cpu())
        return torch.stack([self._cross_entropy(found), torch.cat(divergence)], dim=1)

    def _judged_of(self, output: Tensor) -> Tensor:
        return output[self._judged.to(output.device)]

    def _cross_entropy(self, log_probabilities: Tensor) -> Tensor:
        return -log_probabilities.gather(1, self._targets[:, None])[:, 0].double().cpu()


def _chunks(logits: Tensor) -> Iterator[Tensor]:
    """Views of some rows at a time; of no rows, one empty view."""
    yield from logits.split(max(1, _CHUNK // max(1, logits.shape[1])))

"""Atoms as directions: the nearest other atoms, their match in other dictionaries, and the tokens they promote."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sparsecode_pl.data import generator

# Atoms that are compared with all others at a time.
_BLOCK = 256
# Random directions from which the level of chance is estimated.
_CHANCE = 512


def nearest(atoms: Tensor, k: int = 5) -> tuple[Tensor, Tensor]:
    """The nearest other atoms of each atom.

    Args:
        atoms: unit rows, (m, d).
        k: how many; all others if there are fewer.

    Returns:
        Their numbers, (m, k) int64, and their cosines, (m, k), the largest first.

    Example:
        >>> number, cosine = nearest(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), k=1)
        >>> number.tolist(), cosine.tolist()
        ([[1], [2], [1]], [[0.6000000238418579], [0.800000011920929], [0.800000011920929]])
    """
    k = min(k, len(atoms) - 1)
    numbers, cosines = [], []
    for start in range(0, len(atoms), _BLOCK):
        cosine = atoms[start : start + _BLOCK] @ atoms.T
        cosine[torch.arange(len(cosine)), torch.arange(start, start + len(cosine))] = -2
        found = cosine.topk(k, dim=1)
        numbers.append(found.indices)
        cosines.append(found.values)
    return torch.cat(numbers), torch.cat(cosines)


def stability(atoms: Tensor, others: Sequence[Tensor]) -> tuple[Tensor, float]:
    """How well each atom is found again in other dictionaries.

    Args:
        atoms: unit rows, (m, d).
        others: atoms of dictionaries of the same data from other initial dictionaries, (m', d) each, at least one.

    Returns:
        The best cosine of each atom with the atoms of another dictionary, averaged over these, (m,); and what a random
        direction would have: no better means not found again.
    """
    width = atoms.shape[1]
    random = normalize(torch.randn(_CHANCE, width, generator=generator(0)), dim=1).to(atoms)
    best = torch.stack([_best_cosine(atoms, other) for other in others]).mean(0)
    chance = torch.stack([_best_cosine(random, other) for other in others]).mean()
    return best, float(chance)


def _best_cosine(atoms: Tensor, other: Tensor) -> Tensor:
    return torch.cat([(part @ other.T).amax(1) for part in atoms.split(_BLOCK)])


def promoted_tokens(
    atoms: Tensor, output_logits: Callable[[Tensor], Tensor | None], k: int = 10
) -> tuple[Tensor, Tensor] | None:
    """The output tokens whose logits each atom raises most, and those that it lowers most.

    Logits are taken about their mean over the vocabulary, because a constant changes no probability.

    Args:
        atoms: unit rows, (m, d).
        output_logits: see `Source.output_logits`.
        k: tokens at each end.

    Returns:
        Numbers of the tokens, (m, 2 k), the most promoted first and the most suppressed last, and their logits, (m,
        2 k); None if atoms do not write to the output.
    """
    tokens, values = [], []
    for part in atoms.split(_BLOCK):
        logits = output_logits(part)
        if logits is None:
            return None
        logits = logits - logits.mean(1, keepdim=True)
        k = min(k, logits.shape[1] // 2)
        high, low = logits.topk(k, dim=1), logits.topk(k, dim=1, largest=False)
        tokens.append(torch.cat([high.indices, low.indices.flip(1)], dim=1))
        values.append(torch.cat([high.values, low.values.flip(1)], dim=1))
    return torch.cat(tokens), torch.cat(values)

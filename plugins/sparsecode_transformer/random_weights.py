"""Models that are partly random: trained embeddings under random blocks, and shuffled weights."""

from typing import TYPE_CHECKING, Any, Literal, get_args
from zlib import crc32

import torch
from torch import Tensor

from sparsecode_pl.data import generator
from sparsecode_transformer.sites import find_sites

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: What is random in a model with random weights, see `TransformerActivations`.
Randomise = Literal["all", "all_but_embeddings", "shuffled"]


def check_randomise(randomise: str, random_weights: int | None) -> None:
    """Refuse a choice of what is random that does not exist, or that goes without a seed.

    Raises:
        ValueError: it is one.
    """
    if randomise not in get_args(Randomise):
        raise ValueError(f"randomise is {randomise!r}: give one of {', '.join(get_args(Randomise))}")
    if randomise != "all" and random_weights is None:
        raise ValueError(
            f"randomise is {randomise!r}, but random_weights is None, so nothing is random: give a seed as "
            "random_weights, or leave randomise out"
        )


def embedding_weights(model: "PreTrainedModel") -> dict[str, Tensor]:
    """The weights that hidden state 0 depends on, the input of the first block: its embeddings in the wide sense.

    These are the embeddings of tokens, and where the model has them those of positions and of token types, a norm after
    them and a projection to the width of the blocks. The computation graph tells which they are.

    Args:
        model: a transformer without a head, whose weights require gradients.

    Raises:
        ValueError: it is not known which modules are the model's blocks.

    Example:
        >>> from transformers import GPT2Config, GPT2Model
        >>> model = GPT2Model(GPT2Config(vocab_size=8, n_embd=4, n_layer=2, n_head=1))
        >>> list(embedding_weights(model))
        ['wte.weight', 'wpe.weight']
    """
    try:
        (first,) = find_sites(model, 0)
    except ValueError as error:
        raise ValueError(
            f"randomise is 'all_but_embeddings', but it is not known where the embeddings of this "
            f"{type(model).__name__} end: give all or shuffled"
        ) from error
    inputs: list[Tensor] = []

    def stop(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs.append(args[0] if args else kwargs["hidden_states"])
        raise _ReachedError

    handle = model.get_submodule(first.module).register_forward_pre_hook(stop, with_kwargs=True)
    tokens = torch.zeros(1, 2, dtype=torch.long)
    try:
        with torch.enable_grad():
            model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    except _ReachedError:
        pass
    finally:
        handle.remove()
    weights = dict(model.named_parameters())
    gradients = torch.autograd.grad(inputs[0].sum(), list(weights.values()), allow_unused=True)
    return {
        name: weight.detach()
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        if gradient is not None
    }


@torch.no_grad()
def shuffle_weights(model: "PreTrainedModel", seed: int) -> None:
    """Let the entries of each weight change places at random, in place, within the matrix, bias or scale of a norm.

    Args:
        model: any model. A weight that several modules share is shuffled once, and they still share it.
        seed: of the order, which differs between weights.

    Example:
        >>> from transformers import GPT2Config, GPT2Model
        >>> model = GPT2Model(GPT2Config(vocab_size=8, n_embd=4, n_layer=2, n_head=1))
        >>> before = model.wte.weight.clone()
        >>> shuffle_weights(model, seed=0)
        >>> bool((model.wte.weight == before).all()), sorted(before.flatten()) == sorted(model.wte.weight.flatten())
        (False, True)
    """
    for name, weight in model.named_parameters():
        order = torch.randperm(weight.numel(), generator=generator(seed, crc32(name.encode())))
        weight.copy_(weight.flatten()[order].view_as(weight))


class _ReachedError(Exception):
    """The first block is reached."""

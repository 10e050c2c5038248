"""What directions in the residual stream of a language model add to the logits of its output tokens."""

import re

import torch
from torch import Tensor, nn

from sparsecode_transformer.sites import Site
from sparsecode_transformer.whole_model import WholeModel

# Names of the hidden states, and of the sublayers' outputs.
_WRITES = re.compile(r"((mlp|attention)\.)?\d+")


@torch.no_grad()
def output_logits(whole: WholeModel, site: Site, directions: Tensor) -> Tensor | None:
    """The logits that directions give if they are read out at once, through the final norm and the output embedding.

    This is the "logit lens" (nostalgebraist 2020) of a direction. It leaves out what later layers do with it, and the
    norm's size and bias, so logits of different directions compare only roughly.

    Args:
        whole: the model.
        site: where the directions are; the model's output is after the final norm already.
        directions: (k, d).

    Returns:
        (k, V) float32, on the CPU; None if the model gives no logits, or the directions are not of the residual stream
        or of what a sublayer adds to it, as within an MLP or at a module that was chosen by its name.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_embd=4, n_layer=1, n_head=1)).eval()
        >>> whole = WholeModel("causal", model, model.transformer)
        >>> output_logits(whole, Site("0", "h.0", "input"), torch.eye(4)[:2]).shape
        torch.Size([2, 8])
    """
    written = _WRITES.fullmatch(site.name)
    head = whole.model.get_output_embeddings() if whole.kind == "causal" and written else None
    weight = getattr(head, "weight", None)
    if not isinstance(weight, Tensor) or weight.shape[1] != directions.shape[1]:
        return None
    read = directions.to(weight)
    norm = _final_norm(whole.body) if site.module else None
    if norm is not None:
        read = norm(read) - norm(torch.zeros_like(read[:1]))  # which is its bias
    return (read @ weight.T).float().cpu()


def _final_norm(body: nn.Module) -> nn.Module | None:
    """The last norm outside of the blocks, whose modules have numbers in their names; None if there is none."""
    outside = [module for name, module in body.named_modules() if not re.search(r"(^|\.)\d+(\.|$)", name)]
    norms = [module for module in outside if "norm" in type(module).__name__.lower()]
    return norms[-1] if norms else None

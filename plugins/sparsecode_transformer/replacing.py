"""Replace the activations of a transformer with a forward hook."""

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sparsecode_pl.data import Replace
from sparsecode_transformer.sites import Site

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Replacing:
    """While it is open, one forward pass of a model has some of the activations at a site replaced.

    Args:
        body: a transformer without a head, perhaps within one that has one.
        site: where, as `find_sites` gives it.
        mask: which activations are replaced, (batch, sequence) bool, on the device of the model.
        replace: takes them, (k, width) float32, and gives what passes in their place.

    Raises:
        ValueError: in the pass, if the site is passed twice or what comes back has another shape; at the end, if the
            site is never passed.

    Example:
        >>> from sparsecode_transformer.sites import find_sites
        >>> from transformers import GPT2Config, GPT2Model
        >>> model = GPT2Model(GPT2Config(vocab_size=8, n_embd=4, n_layer=2, n_head=1)).eval()
        >>> (site,) = find_sites(model, 2)
        >>> with Replacing(model, site, torch.tensor([[False, True]]), torch.zeros_like):
        ...     states = model(torch.tensor([[1, 2]])).last_hidden_state
        >>> states.any(dim=-1)
        tensor([[ True, False]])
    """

    def __init__(self, body: "PreTrainedModel", site: Site, mask: Tensor, replace: Replace) -> None:
        self._module = body.get_submodule(site.module)
        self._site, self._mask, self._replace = site, mask.flatten(), replace
        self._handle: RemovableHandle | None = None
        self._passed = False

    def __enter__(self) -> Self:
        if self._site.side == "input":
            self._handle = self._module.register_forward_pre_hook(self._replace_input, with_kwargs=True)
        else:
            self._handle = self._module.register_forward_hook(self._replace_output)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._handle is not None:
            self._handle.remove()
        if kind is None and not self._passed:
            raise ValueError(f"layer {self._site.name}: nothing passes there in a forward pass, so leave it out")

    def _replace_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (self._replaced(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": self._replaced(kwargs["hidden_states"])}

    def _replace_output(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, dict):  # a ModelOutput is a dict
            first = next(iter(output))
            output[first] = self._replaced(output[first])
            return output
        if isinstance(output, tuple | list):
            return type(output)((self._replaced(output[0]), *output[1:]))
        return self._replaced(output)

    def _replaced(self, states: Tensor) -> Tensor:
        if self._passed:
            raise ValueError(
                f"layer {self._site.name} is passed more than once in a forward pass, as where blocks share their "
                "weights: leave it out"
            )
        self._passed = True
        new = states.clone(memory_format=torch.contiguous_format)  # the model may use the old ones elsewhere
        rows = new.view(-1, states.shape[-1])  # some modules see the tokens of a batch end to end
        if not self._mask.any():
            return new
        old = rows[self._mask]
        found = self._replace(old.float())
        if found.shape != old.shape:
            raise ValueError(
                f"replace gives shape {tuple(found.shape)} for activations of {tuple(old.shape)}: give the same shape"
            )
        rows[self._mask] = found.to(rows)
        return new

"""Capture the activations of a transformer with forward hooks."""

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sparsecode_transformer.sites import Site

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ActivationCapture:
    """Captures activations at some sites of a model, at all of them in one forward pass.

    The first pass runs to the end, to make sure that every site is passed once. Later passes stop after the last site.

    Args:
        model: a transformer without a head.
        sites: where to capture, as `find_sites` gives them.

    Raises:
        ValueError: there are no sites.

    Example:
        >>> from sparsecode_transformer.sites import find_sites
        >>> from transformers import GPT2Config, GPT2Model
        >>> model = GPT2Model(GPT2Config(vocab_size=8, n_embd=4, n_layer=2, n_head=1)).eval()
        >>> tokens = torch.tensor([[1, 2, 3]])
        >>> with ActivationCapture(model, find_sites(model)) as capture:
        ...     captured = capture(tokens, torch.ones_like(tokens))
        >>> {name: tuple(states.shape) for name, states in captured.items()}
        {'0': (1, 3, 4), '1': (1, 3, 4), '2': (1, 3, 4)}
    """

    def __init__(self, model: "PreTrainedModel", sites: list[Site]) -> None:
        if not sites:
            raise ValueError("sites is an empty list: give at least one")
        self._model = model
        self._modules = [(site, model.get_submodule(site.module)) for site in sites]
        # Not every model has a cache, or accepts arguments that it does not know.
        takes_cache = "use_cache" in inspect.signature(model.forward).parameters
        self._options = {"use_cache": False} if takes_cache else {}
        self._handles: list[RemovableHandle] = []
        self._captured: dict[str, Tensor] = {}
        self._shape = torch.Size()
        self._ran_whole = False

    def __enter__(self) -> Self:
        for site, module in self._modules:
            if site.side == "input":
                handle = module.register_forward_pre_hook(partial(self._capture_input, site), with_kwargs=True)
            else:
                handle = module.register_forward_hook(partial(self._capture_output, site))
            self._handles.append(handle)
        return self

    def __exit__(self, *exception: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    @torch.no_grad()  # in inference mode the tensors could not be trained on
    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """One forward pass.

        Args:
            input_ids: (batch, sequence), integers.
            attention_mask: (batch, sequence), 0 where there is padding.

        Returns:
            The activations by the site's name, (batch, sequence, width), in the model's dtype and on its device.

        Raises:
            RuntimeError: outside of the `with` block.
            ValueError: a site is passed never or twice in a pass, or what passes is not a tensor of this shape.
        """
        if not self._handles:
            raise RuntimeError(
                "ActivationCapture has no hooks: use it as `with ActivationCapture(model, sites) as capture:`"
            )
        device = self._model.device
        self._captured, self._shape = {}, input_ids.shape
        try:
            self._model(input_ids=input_ids.to(device), attention_mask=attention_mask.to(device), **self._options)
            self._ran_whole = True
        except _AllCapturedError:
            pass
        finally:
            captured, self._captured = self._captured, {}  # a failed pass keeps nothing
        silent = [site.name for site, _ in self._modules if site.name not in captured]
        if silent:
            raise ValueError(f"layers {', '.join(silent)}: nothing passes there in a forward pass. Leave them out")
        return {site.name: captured[site.name] for site, _ in self._modules}

    def widths(self) -> dict[str, int]:
        """The width of every site, by a pass of two tokens."""
        tokens = torch.zeros(1, 2, dtype=torch.long)
        return {name: states.shape[-1] for name, states in self(tokens, torch.ones_like(tokens)).items()}

    def _capture_input(self, site: Site, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._capture(site, args[0] if args else kwargs.get("hidden_states"))

    def _capture_output(self, site: Site, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        values = list(output.values()) if isinstance(output, dict) else output  # a ModelOutput is a dict
        self._capture(site, values[0] if isinstance(values, tuple | list) and values else values)

    def _capture(self, site: Site, states: Any) -> None:
        if site.name in self._captured:
            raise ValueError(
                f"layer {site.name} is passed more than once in a forward pass, as where blocks share their weights: "
                "leave it out"
            )
        if isinstance(states, Tensor) and states.dim() == 2 and len(states) == self._shape.numel():
            states = states.unflatten(0, self._shape)  # OPT's MLP sees the tokens of a batch end to end
        if not isinstance(states, Tensor) or states.dim() != 3 or states.shape[:2] != self._shape:
            what = (
                f"a tensor of shape {tuple(states.shape)}"
                if isinstance(states, Tensor)
                else f"a {type(states).__name__}"
            )
            raise ValueError(
                f"layer {site.name} is passed by {what}, not by one of (batch, sequence, width) = "
                f"({self._shape[0]}, {self._shape[1]}, ...): leave it out"
            )
        # A copy, because some blocks work in place, such as Falcon's (`mlp_output += attention_output`).
        self._captured[site.name] = states.clone()
        if self._ran_whole and len(self._captured) == len(self._modules):
            raise _AllCapturedError


class _AllCapturedError(Exception):
    """Nothing is left to capture in this pass."""

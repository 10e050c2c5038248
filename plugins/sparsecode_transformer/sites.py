"""Where in a transformer activations are captured."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SiteKind = Literal["residual", "mlp", "attention", "mlp_hidden"]

# Modules of a block by their names in transformers; the first one that a block has is taken. For most architectures
# this is the last linear map of a sublayer, because some (BERT, BLOOM, MPT) add the residual in the module around it.
_DOWN_PROJECTION = (
    "mlp.down_proj",  # Llama, Mistral, Qwen, Gemma, OLMo
    "mlp.c_proj",  # GPT-2, GPT-Neo, StarCoder2
    "mlp.dense_4h_to_h",  # GPT-NeoX, BLOOM, Falcon
    "mlp.fc2",  # Phi
    "mlp.fc_out",  # GPT-J, CodeGen
    "mlp.Wo",  # ModernBERT
    "output.dense",  # BERT, RoBERTa, DeBERTa, ELECTRA, MPNet, ESM
    "fc2",  # OPT, BART, XGLM
    "ffn.lin2",  # DistilBERT
    "ffn.down_proj",  # MPT
    "layer.1.DenseReluDense.wo",  # T5
)
_RULES: dict[str, tuple[str, ...]] = {
    "mlp": (*_DOWN_PROJECTION, "mlp"),  # the last for mixtures of experts
    "mlp_hidden": _DOWN_PROJECTION,
    "attention": (
        "attention.output.dense",  # BERT and similar
        "attention.attn",  # MPNet
        "self_attention.dense",  # BLOOM, Falcon
        "self_attn",  # Llama and similar, OPT, BART, Phi
        "attn",  # GPT-2, GPT-Neo, GPT-J, MPT, ModernBERT
        "attention",  # GPT-NeoX, DistilBERT
        "layer.0.SelfAttention",  # T5
    ),
}
_SHOWN = 12


@dataclass(frozen=True)
class Site:
    """A place in a model whose activations can be captured.

    Attributes:
        name: name of the layer in tables and stores: "3", "mlp.3", or the module's full name.
        module: its name in `model.named_modules()`; "" is the model itself.
        side: whether its input is meant or its output.
    """

    name: str
    module: str
    side: Literal["input", "output"]


def find_sites(
    model: "PreTrainedModel", layers: int | str | list[int | str] = "all", site: SiteKind = "residual"
) -> list[Site]:
    """Find where to capture activations, in the order of the model.

    Args:
        model: a transformer without a head, as `load_model` gives it.
        layers: "all"; an index, negative ones count from the end; the name of a module, whose output is taken, with
            wildcards as in file names (`*` crosses dots) and with or without the prefix that a model with a head puts
            before it; or a list of these. With `site` "residual" an index is that of a hidden state: 0 is after the
            embeddings, L the last, after the final norm where there is one. Else it is that of a block, 0 to L - 1.
        site: what an index means: "residual", the residual stream; "mlp" or "attention", the output of that sublayer,
            before it is added to the stream and before any norm of it; "mlp_hidden", the activations inside the MLP,
            which its last linear map reads.

    Raises:
        ValueError: an index is out of range, a name matches no module, or the architecture is not known.

    Example:
        >>> from transformers import GPT2Config, GPT2Model
        >>> model = GPT2Model(GPT2Config(vocab_size=8, n_embd=4, n_layer=2, n_head=1))
        >>> find_sites(model)[1:]
        [Site(name='1', module='h.1', side='input'), Site(name='2', module='', side='output')]
        >>> [found.module for found in find_sites(model, "transformer.h.*.mlp")]
        ['h.0.mlp', 'h.1.mlp']
        >>> find_sites(model, -1, site="mlp_hidden")
        [Site(name='mlp_hidden.1', module='h.1.mlp.c_proj', side='input')]
    """
    wanted = layers if isinstance(layers, list) else [layers]
    if not wanted:
        raise ValueError('layers is an empty list: give "all", indices or names of modules')
    if site != "residual" and site not in _RULES:
        raise ValueError(f"site is {site!r}: give one of residual, {', '.join(_RULES)}")
    order = {name: number for number, (name, _) in enumerate(model.named_modules())}
    order[""] = len(order)  # the model's output comes last
    found: dict[tuple[int, str], Site] = {}
    for layer in wanted:
        if isinstance(layer, str) and layer != "all" and not re.fullmatch(r"-?\d+", layer):
            sites = _by_name(model, layer)
        else:
            sites = _by_index(model, None if layer == "all" else int(layer), site)
        for one in sites:
            found.setdefault((order[one.module], one.side), one)
    return [found[place] for place in sorted(found)]


def _by_name(model: "PreTrainedModel", pattern: str) -> list[Site]:
    prefix = model.base_model_prefix
    # Containers are never called, so they have no activations.
    containers = (nn.ModuleList, nn.ModuleDict)
    names = [name for name, module in model.named_modules() if name and not isinstance(module, containers)]
    matching = [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(f"{prefix}.{name}", pattern)]
    if not matching:
        raise ValueError(
            f"layers is {pattern!r}, and no module of this {type(model).__name__} has such a name: give all, an index, "
            f"or one of {_shortened(names, pattern.removeprefix(f'{prefix}.'))}"
        )
    return [Site(name, name, "output") for name in matching]


def _by_index(model: "PreTrainedModel", index: int | None, kind: SiteKind) -> list[Site]:
    """The site of one index, or all of that kind."""
    blocks = _blocks(model)
    count = len(blocks) + (kind == "residual")
    if index is not None and not -count <= index < count:
        what = "hidden states" if kind == "residual" else "blocks"
        raise ValueError(f"layers is {index}, and the {what} of this {type(model).__name__} are 0 to {count - 1}")
    numbers = range(count) if index is None else [index % count]
    if kind == "residual":
        return [
            Site(str(number), blocks[number], "input") if number < len(blocks) else Site(str(number), "", "output")
            for number in numbers
        ]
    side: Literal["input", "output"] = "input" if kind == "mlp_hidden" else "output"
    return [Site(f"{kind}.{number}", _within(model, blocks[number], kind), side) for number in numbers]


def _blocks(model: "PreTrainedModel") -> list[str]:
    """The names of the blocks: the outermost list of modules that is as long as the configuration says."""
    length = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = {
        name: len(module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == length
    }
    if not lists:
        raise ValueError(
            f"this {type(model).__name__} has no list of blocks as long as its configuration says ({length}): give "
            f"layers as names of modules, such as {_shortened(name for name, _ in model.named_modules() if name)}"
        )
    outermost = min(lists, key=lambda name: name.count("."))
    return [f"{outermost}.{number}" for number in range(lists[outermost])]


def _within(model: "PreTrainedModel", block: str, kind: str) -> str:
    """The name of the module in the block that corresponds to the kind of site."""
    names = [name for name, _ in model.get_submodule(block).named_modules() if name]
    for rule in _RULES[kind]:
        if rule in names:
            return f"{block}.{rule}"
    raise ValueError(
        f"site is {kind!r}, and it is not known which module of {block} in this {type(model).__name__} that is: give "
        f"layers as names of modules; those of the block are {_shortened(names)}"
    )


def _shortened(names: Iterable[str], near: str = "") -> str:
    """The names with numbers as wildcards, each once, the most similar to `near` first, and not too many."""
    numberless = list(dict.fromkeys(re.sub(r"(?<![^.])\d+(?![^.])", "*", name) for name in names))
    if near:
        numberless.sort(key=lambda name: -SequenceMatcher(None, name, near).ratio())
    more = f" and {len(numberless) - _SHOWN} more" if len(numberless) > _SHOWN else ""
    return ", ".join(numberless[:_SHOWN]) + more

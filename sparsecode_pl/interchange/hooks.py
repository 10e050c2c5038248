"""Places in a model, by our names of layers and by the names that autoencoders give them."""

import re

# TransformerLens's names, by ours. A hidden state is what enters the block of its number.
_HOOKS = {
    r"(\d+)": r"blocks.\1.hook_resid_pre",
    r"mlp\.(\d+)": r"blocks.\1.hook_mlp_out",
    r"attention\.(\d+)": r"blocks.\1.hook_attn_out",
    r"mlp_hidden\.(\d+)": r"blocks.\1.mlp.hook_post",
}
_SUBLAYERS = {"hook_mlp_out": "mlp", "hook_attn_out": "attention", "mlp.hook_post": "mlp_hidden"}
# The number of a block in the names of modules.
_BLOCK = re.compile(r"(?:^|\.)(?:blocks|layers|layer|h)\.(\d+)(?:\.(.+))?$")


def hook_of_layer(layer: str) -> str:
    """TransformerLens's name of one of our layers; the name itself where there is no other.

    The last hidden state, after the final norm, has no name of its own there, and gets one that no block has.

    Example:
        >>> hook_of_layer("3"), hook_of_layer("mlp.3"), hook_of_layer("model.layers.3.mlp.down_proj")
        ('blocks.3.hook_resid_pre', 'blocks.3.hook_mlp_out', 'model.layers.3.mlp.down_proj')
    """
    for pattern, hook in _HOOKS.items():
        if re.fullmatch(pattern, layer):
            return re.sub(pattern, hook, layer)
    return layer


def layer_of_hook(hook: str) -> str | None:
    """Our name of the layer that a hook of TransformerLens, or the name of a module, stands for; None if unknown.

    What leaves block n is hidden state n + 1. After the last block the final norm lies between the two.

    Example:
        >>> layer_of_hook("blocks.3.hook_resid_post"), layer_of_hook("layers.3"), layer_of_hook("mlp.3")
        ('4', '4', 'mlp.3')
        >>> layer_of_hook("blocks.3.attn.hook_z") is None
        True
    """
    if re.fullmatch(r"\d+", hook) or any(re.fullmatch(pattern, hook) for pattern in _HOOKS):
        return hook
    if hook in ("embed_tokens", "hook_embed"):
        return "0"
    found = _BLOCK.search(hook)
    if found is None:
        return None
    number, rest = int(found[1]), found[2]
    if rest in (None, "hook_resid_post"):
        return str(number + 1)
    if rest == "hook_resid_pre":
        return str(number)
    if rest == "mlp":
        return f"mlp.{number}"
    return f"{_SUBLAYERS[rest]}.{number}" if rest in _SUBLAYERS else None


def is_other_layer(layer: str, hook: str) -> bool:
    """Whether a hook stands for another layer than one of ours; False where that is not known.

    Example:
        >>> is_other_layer("3", "blocks.3.hook_resid_pre"), is_other_layer("3", "blocks.7.hook_resid_pre")
        (False, True)
    """
    mine, theirs = layer_of_hook(layer), layer_of_hook(hook)
    return layer != hook and mine is not None and theirs is not None and mine != theirs


def is_other_model(model: str, other: str) -> bool:
    """Whether two names are of different models: the last parts of their paths differ.

    Example:
        >>> is_other_model("google/gemma-2-2b", "gemma-2-2b"), is_other_model("gpt2", "pythia-70m")
        (False, True)
    """
    return _short(model) != _short(other)


def _short(model: str) -> str:
    name = model.rstrip("/").rpartition("/")[2].lower()
    return "gpt2" if name == "gpt2-small" else name  # TransformerLens's name of it

"""Places in a model, by our names of layers and by the names that autoencoders give them."""

import re
import warnings

# TransformerLens's names, by ours. A hidden state is what enters the block of its number.
_HOOKS = {
    r"(\d+)": r"blocks.\1.hook_resid_pre",
    r"mlp\.(\d+)": r"blocks.\1.hook_mlp_out",
    r"attention\.(\d+)": r"blocks.\1.hook_attn_out",
    r"mlp_hidden\.(\d+)": r"blocks.\1.mlp.hook_post",
}
_SUBLAYERS = {
    "hook_mlp_out": "mlp",
    "mlp": "mlp",
    "hook_attn_out": "attention",
    "attn": "attention",
    "self_attn": "attention",
    "mlp.hook_post": "mlp_hidden",
}
_EMBEDDINGS = ("embed_tokens", "hook_embed")
# The number of a block in the names of modules.
_BLOCK = re.compile(r"(?:^|\.)(?:blocks|layers|layer|h)\.(\d+)(?:\.(.+))?$")
# A width, which some releases add to the name of a hook.
_WIDTH = re.compile(r"(?<=\.)(hook_[a-z_]+)_\d+$")
# What the blocks of TransformerLens's models read from the stream and write to it.
_STREAM = re.compile(r"hook_(?:pos_)?embed|blocks\.\d+\.hook_(?:resid_(?:pre|mid|post)|attn_out|mlp_out)")


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
        >>> layer_of_hook("blocks.3.hook_resid_post"), layer_of_hook("layers.3"), layer_of_hook("h.3.attn")
        ('4', '4', 'attention.3')
        >>> layer_of_hook("blocks.3.attn.hook_z") is None
        True
    """
    if any(re.fullmatch(pattern, hook) for pattern in _HOOKS):
        return hook
    if hook in _EMBEDDINGS:
        return "0"
    found = _BLOCK.search(_WIDTH.sub(r"\1", hook))
    if found is None:
        return None
    number, rest = int(found[1]), found[2]
    if rest in (None, "hook_resid_post"):
        return str(number + 1)
    if rest == "hook_resid_pre":
        return str(number)
    if rest == "attention" and "layers." in hook:  # in BERT's `layer.N.attention` the norm after it is included
        return f"attention.{number}"
    return f"{_SUBLAYERS[rest]}.{number}" if rest in _SUBLAYERS else None


def names_a_module(name: str) -> bool:
    """Whether a name is that of a block, of something in a block, or of the embeddings.

    Example:
        >>> names_a_module("layers.16"), names_a_module("h.3.mlp"), names_a_module("16")
        (True, True, False)
    """
    return name in _EMBEDDINGS or _BLOCK.search(name) is not None


def is_of_stream(hook: str) -> bool:
    """Whether a hook of TransformerLens is in the residual stream, or what a block adds to it.

    Example:
        >>> is_of_stream("blocks.3.hook_resid_pre"), is_of_stream("blocks.3.mlp.hook_post")
        (True, False)
    """
    return _STREAM.fullmatch(_WIDTH.sub(r"\1", hook)) is not None


def is_other_layer(layer: str, hook: str) -> bool:
    """Whether a hook stands for another layer than one of ours.

    A hook that is not understood is taken for that of another layer if its block is not one that the layer touches.
    Otherwise there is a warning, and False.

    Args:
        layer: our name, or that of a module.
        hook: the name that an autoencoder gives.

    Example:
        >>> is_other_layer("3", "blocks.3.hook_resid_pre"), is_other_layer("3", "blocks.7.hook_resid_pre")
        (False, True)
        >>> is_other_layer("3", "blocks.7.attn.hook_z")
        True
    """
    if layer == hook:
        return False
    mine, theirs = layer_of_hook(layer), layer_of_hook(hook)
    if mine is not None and theirs is not None:
        return mine != theirs
    ours, others = _blocks(layer), _blocks(hook)
    if ours and others and not ours & others:
        return True
    warnings.warn(
        f"the autoencoder says that it is of {hook!r}, and whether that is layer {layer!r} of the data is not known: "
        "it is held beside this layer",
        stacklevel=2,
    )
    return False


def _blocks(name: str) -> set[int]:
    """Numbers of the blocks that a place touches: a hidden state lies between two. Empty if unknown."""
    known = layer_of_hook(name)
    if known is not None and known.isdecimal():
        return {int(known) - 1, int(known)}
    number = known.rpartition(".")[2] if known is not None else None
    found = _BLOCK.search(name)
    if number is None and found is not None:
        number = found[1]
    return {int(number)} if number is not None else set()


def is_other_model(model: str, other: str) -> bool:
    """Whether two names are of different models: the last parts of their paths differ.

    Example:
        >>> is_other_model("google/gemma-2-2b", "gemma-2-2b"), is_other_model("gpt2", "pythia-70m")
        (False, True)
    """
    return _short(model) != _short(other)


def _short(model: str) -> str:
    name = re.sub(r" \(\d+\)$", "", model).rstrip("/").rpartition("/")[2].lower()  # we number models of one name
    return "gpt2" if name == "gpt2-small" else name  # TransformerLens's name of it

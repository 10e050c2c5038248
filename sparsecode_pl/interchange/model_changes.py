"""What SAELens changes in a model before an autoencoder is trained on its activations.

SAELens loads models by TransformerLens's `from_pretrained_no_processing`, which leaves the weights as they are unless
`model_from_pretrained_kwargs` say otherwise. Ours are always as they are.
"""

import re
import warnings
from collections.abc import Mapping
from typing import Any

from sparsecode_pl.interchange.hooks import is_of_stream

# TransformerLens centres no weights of models with RMS norms.
_WITH_RMS_NORM = re.compile(r"llama|gemma|mistral|mixtral|qwen|phi-3|olmo-?2|olmo-?3|olmoe|gpt-oss|deepseek")

# Settings that change places inside a block alone, not the stream nor what is added to it.
_INSIDE = ("fold_ln", "fold_value_biases", "refactor_factored_attn_matrices")

# Settings that change no activations, or by no more than rounding.
_HARMLESS = (
    *("center_unembed", "device", "n_devices", "device_map", "move_to_device", "dtype", "torch_dtype"),
    *("default_prepend_bos", "default_padding_side", "n_ctx", "first_n_layers", "tokenizer", "trust_remote_code"),
    *("token", "cache_dir", "local_files_only", "force_download", "low_cpu_mem_usage", "attn_implementation"),
)


def had_row_means_removed(settings: object, model: str | None, hook: str | None, name: str) -> bool:
    """Whether an autoencoder was trained on rows whose mean over d is 0, because the weights were centred.

    Warns of other settings that make the activations differ from those of the model as it is.

    Args:
        settings: the `model_from_pretrained_kwargs` of its metadata, if any.
        model: that it was trained on, if known.
        hook: where in the model, if known.
        name: what messages call the autoencoder.

    Example:
        >>> centred = {"center_writing_weights": True}
        >>> had_row_means_removed(centred, "gpt2-small", "blocks.8.hook_resid_pre", "")
        True
        >>> had_row_means_removed(centred, "gpt2-small", "blocks.8.mlp.hook_post", "")
        False
    """
    given: Mapping[str, Any] = settings if isinstance(settings, Mapping) else {}
    changed = {key: value for key, value in given.items() if value and key not in _HARMLESS}
    of_stream = hook is not None and is_of_stream(hook)
    centred = bool(changed.pop("center_writing_weights", False))
    centred = centred and not _WITH_RMS_NORM.search((model or "").lower())
    if of_stream:
        changed = {key: value for key, value in changed.items() if key not in _INSIDE}
    if centred and hook is None:
        changed["center_writing_weights"] = True
    if changed:
        shown = ", ".join(f"{key}={value!r}" for key, value in changed.items())
        warnings.warn(
            f"{name or 'the autoencoder'} was trained on {hook or 'an unknown place'} of a model that was loaded with "
            f"{shown}: its activations are not those of the model as it is, and the scores may be too low. Give "
            "activations of the changed model",
            stacklevel=3,
        )
    return centred and of_stream

"""Dictionaries as folders that SAELens reads."""

import json
import math
import warnings
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors.torch import save
from torch import Tensor

from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.interchange.hooks import hook_of_layer
from sparsecode_pl.utilities.arguments import check_arguments
from sparsecode_pl.utilities.files import write_files

#: The architecture whose codes are the dictionary's own.
ARCHITECTURE = "sparsecode_greedy"

#: What a dictionary can be written as.
ExportArchitecture = Literal["sparsecode_greedy", "matching_pursuit"]

# The release of SAELens whose format is written: without one from 6 on, a folder is taken for an old one.
_VERSION = "6.54.0"


def export_saelens(
    dictionary: Dictionary,
    folder: str | Path,
    *,
    architecture: ExportArchitecture = "sparsecode_greedy",
    hook_name: str | None = None,
    steps: int | None = None,
) -> None:
    """Write a dictionary as an autoencoder of SAELens: `cfg.json` and `sae_weights.safetensors`.

    The centre becomes `b_dec`, the atoms `W_dec`. As "sparsecode_greedy" it encodes and decodes as the dictionary does,
    with its penalty, its scale and its coder, and its activations are the codes times the scale. To read it,
    import `sparsecode_pl.interchange` first, and call `sae_lens.SAE.load_from_disk(folder)`.

    As "matching_pursuit" it can be read without this package, but the codes are others: they are not shrunk, an atom
    may be taken twice, and every row gets about as many.

    Args:
        dictionary: with a penalty.
        folder: made if need be. Such files that are there are replaced.
        architecture: "sparsecode_greedy" or "matching_pursuit".
        hook_name: TransformerLens's name of the place in the model; by default that of the layer on the card. Hidden
            state L is `blocks.L.hook_resid_pre`, but the last one, after the final norm, is no block's.
        steps: of "matching_pursuit", how often an atom is taken, >= 1; by default the mean number of non-zero
            coefficients on the card.

    Raises:
        ValueError: the dictionary has no penalty, or an argument is out of its range.
        FileExistsError: the folder holds something else.
        OSError: it cannot be written.
    """
    check_arguments(export_saelens, locals())
    if architecture not in get_args(ExportArchitecture):
        raise ValueError(f"architecture is {architecture!r}: give one of {', '.join(get_args(ExportArchitecture))}")
    if math.isnan(dictionary.lam):
        raise ValueError("the dictionary has no penalty, so its codes are not defined: set dictionary.lam first")
    folder = Path(folder)
    if (folder / "README.md").exists() or (folder / "dictionary.json").exists():
        raise FileExistsError(f"folder {folder} holds a dictionary or a README.md: give another folder")
    if architecture == ARCHITECTURE:
        own = _as_it_is(dictionary)
    else:
        own = _as_matching_pursuit(dictionary, steps)
        warnings.warn(
            "matching_pursuit gives other codes than the dictionary: they are not shrunk, and an atom may be taken "
            f"twice; the architecture {ARCHITECTURE} has the dictionary's codes",
            stacklevel=2,
        )
    content = _config(dictionary, hook_name) | {"architecture": architecture} | own
    tensors: dict[str, Tensor] = {"W_dec": dictionary.atoms, "b_dec": dictionary.centre}
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_files({folder / "sae_weights.safetensors": weights, folder / "cfg.json": text.encode()})


def _config(dictionary: Dictionary, hook_name: str | None) -> dict[str, Any]:
    """What every architecture of SAELens has."""
    card = dictionary.card
    if hook_name is None and card.layer is not None:
        hook_name = hook_of_layer(card.layer)
    return {
        "d_in": dictionary.d_model,
        "d_sae": dictionary.num_atoms,
        "dtype": str(dictionary.atoms.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": _VERSION,
            "sae_lens_training_version": None,
            "model_name": card.model,
            "hook_name": hook_name,
            "sparsecode_layer": card.layer,
            "sparsecode_data": card.data,
        },
    }


def _as_it_is(dictionary: Dictionary) -> dict[str, Any]:
    return {"lam": dictionary.lam, "scale": float(dictionary.scale), "coder": dictionary.coder.settings()}


def _as_matching_pursuit(dictionary: Dictionary, steps: int | None) -> dict[str, Any]:
    if steps is None:
        known = dictionary.card.scores.get("N0", math.nan)
        if not known > 0:
            raise ValueError("steps is missing, and the dictionary's card has no N0: give the number of steps")
        steps = max(1, round(known))
    if steps < 1:
        raise ValueError(f"steps is {steps}: give at least 1")
    return {"residual_threshold": 0.0, "max_iterations": steps, "stop_on_duplicate_support": True}

"""The scaling of a checkpoint of SAELens, which is put into the weights only at the end of training."""

import math
from pathlib import Path
from typing import Any

#: What a trainer of SAELens leaves beside a checkpoint whose scaling is not yet in the weights.
SCALER, WHITENING = "activation_scaler.json", "activation_whitening.safetensors"

_KINDS = ("expected_average_only_in", "covariance_whitening")


class MissingScalingError(ValueError):
    """An autoencoder expects scaled activations, and by how much is not known."""


def is_unscaled(sae: Any) -> bool:
    """Whether an autoencoder expects activations that something else has scaled."""
    return sae.cfg.normalize_activations in _KINDS


def check_scaled(sae: Any, name: str) -> None:
    """Refuse an autoencoder whose scaling is not in its weights.

    Raises:
        MissingScalingError: it is one.
    """
    if is_unscaled(sae):
        raise MissingScalingError(
            f"sae is {name!r}, whose normalize_activations is {sae.cfg.normalize_activations!r}, and by how much is "
            "not known: call its fold_activation_norm_scaling_factor or fold_activation_whitening first, and give it "
            'to from_saelens. If its weights are folded already, set normalize_activations to "none"'
        )


def fold_scaling(sae: Any, folder: Path, name: str) -> None:
    """Put the scaling of a checkpoint into its weights, as SAELens does at the end of training.

    Args:
        sae: an autoencoder of SAELens, which is changed.
        folder: that it is from.
        name: what messages call it.

    Raises:
        MissingScalingError: the scaling is not there.
    """
    kind = sae.cfg.normalize_activations
    if kind not in _KINDS:
        return
    from sae_lens.training.activation_scaler import ActivationScaler

    scaler = ActivationScaler()
    if (folder / SCALER).is_file():
        scaler.load(folder / SCALER)
    factor, whitening = scaler.scaling_factor, scaler.whitening
    if kind == "covariance_whitening":
        if whitening is None:
            raise _missing(name, kind, f"{SCALER} and {WHITENING}")
        sae.fold_activation_whitening(
            mean=whitening.mean, whitening_matrix=whitening.matrix, unwhitening_matrix=whitening.inverse_matrix
        )
    else:
        if not isinstance(factor, int | float) or not 0 < factor < math.inf:
            raise _missing(name, kind, f"{SCALER} with a scaling_factor > 0")
        sae.fold_activation_norm_scaling_factor(factor)


def _missing(name: str, kind: str, files: str) -> MissingScalingError:
    return MissingScalingError(
        f"sae is {name!r}, whose normalize_activations is {kind!r}, and {files} is not beside its weights: without, "
        "its codes would be wrong. Copy what the training has left there, or take the autoencoder that was saved at "
        'its end. If its weights are scaled already, set normalize_activations to "none" in cfg.json'
    )

"""Autoencoders of SAELens, read by SAELens itself."""

import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsecode_pl.interchange.autoencoder import Autoencoder, Origin
from sparsecode_pl.utilities.plain import parse_json

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
# What a trainer of SAELens leaves beside a checkpoint whose scaling is not yet in the weights.
_SCALER, _WHITENING = "activation_scaler.json", "activation_whitening.safetensors"

#: Architectures that are read, by SAELens's names.
ARCHITECTURES = (
    *("standard", "topk", "abstopk", "batchtopk", "matryoshka_batchtopk", "jumprelu", "gated", "matching_pursuit"),
    "sparsecode_greedy",
)
# Trained under these names, and saved for use as jumprelu with the threshold that training has found.
_BY_BATCH = ("batchtopk", "matryoshka_batchtopk")

# How far the reconstruction may be from the library's own, relative to its norm.
_TOLERANCE = 1e-4


class _Encoder(torch.nn.Module):
    """The encoder of an autoencoder of SAELens, for flat rows."""

    def __init__(self, sae: Any) -> None:
        super().__init__()
        self.sae = sae

    def forward(self, x: Tensor) -> Tensor:
        activations: Tensor = self.sae.encode(x)
        for left in ("x_norm_coeff", "ln_mu", "ln_std"):  # which it keeps for decoding
            vars(self.sae).pop(left, None)
        return activations.to_dense() if activations.is_sparse else activations


def read_saelens(folder: Path, name: str) -> Autoencoder:
    """Read a folder that SAELens has written: `cfg.json` and `sae_weights.safetensors`.

    Args:
        folder: local.
        name: what messages and tables call it.

    Raises:
        ImportError: SAELens is not installed.
        ValueError: the files are damaged, or of an architecture that cannot be read.
    """
    config = _config(folder, name)
    architecture = config.get("architecture", "standard")
    _check_architecture(architecture, name)
    sae_lens = import_sae_lens(name)
    with _reading(name):
        if architecture in _BY_BATCH:
            sae = _without_batches(sae_lens, folder, name)
        else:
            sae = sae_lens.SAE.load_from_disk(folder, device="cpu", dtype="float32")
        _fold_scaling(sae, folder, name)
    return from_saelens(sae, name, architecture)


def read_release(release: str, sae_id: str, name: str) -> Autoencoder:
    """Read an autoencoder of SAELens's list of releases.

    Args:
        release: name of the release.
        sae_id: of the autoencoder in it.
        name: what messages and tables call it.

    Raises:
        ImportError: SAELens is not installed.
        ValueError: there is no such release or autoencoder, or it cannot be read.
        OSError: the hub cannot be reached.
    """
    sae_lens = import_sae_lens(name)
    with _reading(name):
        sae = sae_lens.SAE.from_pretrained(release, sae_id, device="cpu", dtype="float32")
    return from_saelens(sae, name)


def from_saelens(sae: Any, name: str = "", architecture: str | None = None) -> Autoencoder:
    """An autoencoder of SAELens in memory as a codec.

    Its weights are used as they are, in float32. That the reconstruction is its own is checked on a few random rows.

    Args:
        sae: an object of a subclass of `sae_lens.SAE`.
        name: what messages and tables call it.
        architecture: that of its files, if it is another one.

    Raises:
        ValueError: it is of an architecture that cannot be read.
    """
    architecture = architecture or sae.cfg.architecture()
    _check_architecture(architecture, name)
    sae = sae.float().eval().requires_grad_(False)
    sae.turn_off_forward_pass_hook_z_reshaping()  # our rows are flat: the reshaping is a change of view
    decoder = sae.W_dec.detach()
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):  # the activations are those of unit rows already
        decoder = torch.nn.functional.normalize(decoder, dim=1)
    bias = sae.b_dec.detach()
    if architecture == "matching_pursuit" and not sae.cfg.apply_b_dec_to_input:
        bias = torch.zeros_like(bias)  # it is then left out of the reconstruction
    kind = sae.cfg.normalize_activations
    metadata = sae.cfg.metadata
    made = Autoencoder(
        _Encoder(sae),
        decoder,
        bias,
        kind if kind in ("constant_norm_rescale", "layer_norm") else "none",
        signed=architecture == "abstopk",
        origin=Origin(name, architecture, metadata.model_name, metadata.hook_name),
    )
    _check_reconstruction(made, sae)
    return made


def import_sae_lens(name: str) -> Any:
    """The package `sae_lens`.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import sae_lens
    except ImportError as error:
        raise ImportError(
            f"sae is {name!r}, an autoencoder of SAELens, which cannot be imported ({error}): install the extra, "
            'pip install "sparsecode-pl[sae]"'
        ) from error
    return sae_lens


def _config(folder: Path, name: str) -> dict[str, Any]:
    try:
        return parse_json((folder / CONFIG).read_bytes())
    except ValueError as error:
        raise ValueError(f"sae is {name!r}, whose {CONFIG} is damaged: {error}") from error


def _check_architecture(architecture: object, name: str) -> None:
    if architecture in ARCHITECTURES:
        return
    reason = ""
    if "transcoder" in str(architecture) or "clt" in str(architecture):
        reason = ", which maps one place of a model to another"
    elif architecture == "temporal":
        reason = ", whose codes depend on the tokens before"
    raise ValueError(
        f"sae is {name!r}, and its architecture is {architecture!r}{reason}: give one of {', '.join(ARCHITECTURES)}"
    )


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Say of any error in SAELens what could not be read."""
    try:
        yield
    except (ImportError, OSError):
        raise
    except Exception as error:  # damaged files fail in many ways
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"sae is {name!r}, which SAELens cannot read ({type(error).__name__}: {reason}): give a folder that it has "
            "written, or RELEASE:SAE_ID"
        ) from error


def _without_batches(sae_lens: Any, folder: Path, name: str) -> Any:
    """A batchtopk autoencoder that was saved during training, as SAELens saves it for use: with its threshold.

    Its codes would otherwise depend on the rows of the batch.
    """
    training = sae_lens.saes.sae.TrainingSAE.load_from_disk(folder, device="cpu", dtype="float32")
    if float(training.topk_threshold) == 0:
        warnings.warn(
            f"{name} is a batchtopk autoencoder whose threshold is 0, as before training: all positive activations are "
            "codes",
            stacklevel=4,
        )
    with tempfile.TemporaryDirectory() as temporary:
        training.save_inference_model(temporary)
        return sae_lens.SAE.load_from_disk(temporary, device="cpu", dtype="float32")


def _fold_scaling(sae: Any, folder: Path, name: str) -> None:
    """Put the scaling of a checkpoint into its weights, which SAELens does at the end of training."""
    kind = sae.cfg.normalize_activations
    if kind not in ("expected_average_only_in", "covariance_whitening"):
        return
    factor = json.loads((folder / _SCALER).read_text())["scaling_factor"] if (folder / _SCALER).is_file() else None
    if kind == "expected_average_only_in" and factor is not None:
        sae.fold_activation_norm_scaling_factor(factor)
    else:
        warnings.warn(
            f"{name} was trained with normalize_activations {kind}, and its files do not say by how much: it is used "
            "without, as SAELens does",
            stacklevel=4,
        )


@torch.no_grad()
def _check_reconstruction(made: Autoencoder, sae: Any) -> None:
    """Check on a few rows that the reconstruction is the library's."""
    x = torch.randn(8, made.d_model, generator=torch.Generator().manual_seed(0))
    expected, found = sae(x), made.reconstruct(x, made.encode(x))
    if not torch.linalg.vector_norm(found - expected) <= _TOLERANCE * torch.linalg.vector_norm(expected):
        raise ValueError(
            f"sae is {made.origin.name!r}, and its reconstruction is not what its {made.origin.architecture} decoder "
            "and bias give: it cannot be read"
        )

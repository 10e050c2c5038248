"""Autoencoders of SAELens, read by SAELens itself."""

import copy
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsecode_pl.interchange.autoencoder import Autoencoder, Origin
from sparsecode_pl.interchange.model_changes import had_row_means_removed
from sparsecode_pl.interchange.normalisation import Normalisation
from sparsecode_pl.interchange.saelens_scaling import MissingScalingError, check_scaled, fold_scaling
from sparsecode_pl.utilities.plain import parse_json

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"

#: Architectures that are read, by SAELens's names.
ARCHITECTURES = (
    *("standard", "topk", "abstopk", "batchtopk", "matryoshka_batchtopk", "jumprelu", "gated", "matching_pursuit"),
    "sparsecode_greedy",
)
# Trained under these names, and saved for use as jumprelu with the threshold that training has found.
_BY_BATCH = ("batchtopk", "matryoshka_batchtopk")

# What of the configuration makes no difference to the codes.
_ASIDE = ("metadata", "device", "dtype")

# How far the reconstruction may be from the library's own, relative to its norm.
_TOLERANCE = 1e-4


class _Encoder(torch.nn.Module):
    """The encoder of an autoencoder of SAELens, for flat rows.

    Args:
        sae: the autoencoder.
        centred: whether it was trained on rows whose mean is 0.
    """

    def __init__(self, sae: Any, centred: bool) -> None:
        super().__init__()
        self.sae = sae
        self.centred = centred

    def forward(self, x: Tensor) -> Tensor:
        if self.centred:
            x = x - x.mean(dim=1, keepdim=True)
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
        ValueError: the files are damaged, of an architecture that cannot be read, or without the scaling of a
            checkpoint.
    """
    config = _config(folder, name)
    architecture = config.get("architecture", "standard")
    _check_architecture(architecture, name)
    sae_lens = import_sae_lens(name)
    kind = sae_lens.saes.sae.TrainingSAE if architecture in _BY_BATCH else sae_lens.SAE
    with _reading(name):
        sae = kind.load_from_disk(folder, device="cpu", dtype="float32")
        fold_scaling(sae, folder, name)
    return _made(_for_use(sae, name) if architecture in _BY_BATCH else sae, name, architecture)


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
    return _made(sae, name, sae.cfg.architecture())


def from_saelens(sae: Any, name: str = "") -> Autoencoder:
    """An autoencoder of SAELens in memory as a codec.

    It is copied, in float32, and one in training as SAELens saves it for use. That the reconstruction is its own is
    checked on a few random rows. Where its metadata say that the writing weights of the model were centred, the mean of
    each row is subtracted before encoding and put back after decoding.

    Args:
        sae: an object of a subclass of `sae_lens.SAE`.
        name: what messages and tables call it.

    Raises:
        ValueError: it is of an architecture that cannot be read, or its scaling is not in its weights.
    """
    architecture = sae.cfg.architecture()
    _check_architecture(architecture, name)
    check_scaled(sae, name)
    return _made(_for_use(sae, name) if _is_in_training(sae) else copy.deepcopy(sae), name, architecture)


def _made(sae: Any, name: str, architecture: str) -> Autoencoder:
    """The codec of an autoencoder of SAELens, which it keeps and changes."""
    _check_architecture(architecture, name)
    check_scaled(sae, name)
    sae = sae.to(dtype=torch.float32).eval().requires_grad_(False)
    sae._setup_activation_normalization()  # that of a copy would still write to the original
    sae.turn_off_forward_pass_hook_z_reshaping()  # our rows are flat: the reshaping is a change of view
    config, metadata = sae.cfg, sae.cfg.metadata
    decoder = sae.W_dec.detach()
    if getattr(config, "rescale_acts_by_decoder_norm", False):  # the activations are those of unit rows already
        decoder = torch.nn.functional.normalize(decoder, dim=1)
    bias = sae.b_dec.detach()
    if architecture == "matching_pursuit" and not config.apply_b_dec_to_input:
        bias = torch.zeros_like(bias)  # it is then left out of the reconstruction
    centred = had_row_means_removed(
        metadata.model_from_pretrained_kwargs, metadata.model_name, metadata.hook_name, name
    )
    made = Autoencoder(
        _Encoder(sae, centred),
        decoder,
        bias,
        _normalisation(config.normalize_activations, centred),
        signed=architecture == "abstopk",
        origin=Origin(name, architecture, metadata.model_name, metadata.hook_name),
        settings={"library": "SAELens"} | {key: value for key, value in config.to_dict().items() if key not in _ASIDE},
    )
    _check_reconstruction(made, sae, centred)
    return made


def _normalisation(kind: str, centred: bool) -> Normalisation:
    if kind == "layer_norm":  # which subtracts the mean by itself
        return "layer_norm"
    if kind == "constant_norm_rescale":
        return "row_mean_norm_rescale" if centred else "constant_norm_rescale"
    return "row_mean" if centred else "none"


def import_sae_lens(name: str) -> Any:
    """The package `sae_lens`. What importing it does to the warnings of transformers is undone.

    Raises:
        ImportError: it is not installed.
    """
    try:
        with _same_verbosity():
            import sae_lens
            import sae_lens.registry  # since version 6
    except ImportError as error:
        raise ImportError(
            f"sae is {name!r}, an autoencoder of SAELens, which cannot be imported ({error}): install the extra, "
            'pip install "sparsecode-pl[sae]"'
        ) from error
    return sae_lens


@contextmanager
def _same_verbosity() -> Iterator[None]:
    """Keep the level of transformers' messages, which TransformerLens sets for the whole process."""
    if "sae_lens" in sys.modules:
        yield
        return
    from transformers.utils import logging

    before = logging.get_verbosity()
    try:
        yield
    finally:
        logging.set_verbosity(before)


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
        with warnings.catch_warnings():  # what it says of how to load the model does not help here: see `model_changes`
            warnings.filterwarnings("ignore", r"\s*This SAE has non-empty model_from_pretrained_kwargs")
            yield
    except (ImportError, OSError, MissingScalingError):
        raise
    except Exception as error:  # damaged files fail in many ways
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"sae is {name!r}, which SAELens cannot read ({type(error).__name__}: {reason}): give a folder that it has "
            "written, or RELEASE:SAE_ID"
        ) from error


def _is_in_training(sae: Any) -> bool:
    return hasattr(sae, "save_inference_model")


def _for_use(training: Any, name: str) -> Any:
    """An autoencoder in training as SAELens saves it for use: a batchtopk one with its threshold.

    Its codes would otherwise depend on the rows of the batch.
    """
    if training.cfg.architecture() in _BY_BATCH and float(training.topk_threshold) == 0:
        warnings.warn(
            f"{name or 'the autoencoder'} is a batchtopk autoencoder whose threshold is 0, as before training: all "
            "positive activations are codes",
            stacklevel=4,
        )
    sae_lens = import_sae_lens(name)
    with _reading(name), tempfile.TemporaryDirectory() as temporary:
        training.save_inference_model(temporary)
        return sae_lens.SAE.load_from_disk(temporary, device=str(training.device), dtype="float32")


@torch.no_grad()
def _check_reconstruction(made: Autoencoder, sae: Any, centred: bool) -> None:
    """Check on a few rows that the reconstruction is the library's."""
    x = torch.randn(8, made.d_model, generator=torch.Generator().manual_seed(0)).to(made.atoms)
    mean = x.mean(dim=1, keepdim=True) * centred
    expected, found = sae(x - mean) + mean, made.reconstruct(x, made.encode(x))
    if not torch.linalg.vector_norm(found - expected) <= _TOLERANCE * torch.linalg.vector_norm(expected):
        raise ValueError(
            f"sae is {made.origin.name!r}, and its reconstruction is not what its {made.origin.architecture} decoder "
            "and bias give: it cannot be read"
        )

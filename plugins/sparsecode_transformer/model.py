"""A transformer with its trained weights, or with weights that are random, all or in part."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from sparsecode_transformer.errors import config_errors, first_line, weight_errors
from sparsecode_transformer.random_weights import Randomise, check_randomise, embedding_weights, shuffle_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NAMED = 3


def load_model(
    model: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    trust_remote_code: bool = False,
    random_weights: int | None = None,
    randomise: Randomise = "all",
) -> "PreTrainedModel":
    """Load a transformer without its head, in eval mode and without gradients; of an encoder-decoder, the encoder.

    Args:
        model: what `locate_model` returns: a folder, or a name on the hub.
        revision: branch, tag or commit on the hub.
        dtype: of the weights and of the computation: "float32", "bfloat16" or "float16".
        device: a PyTorch device such as "cpu" or "cuda:1"; "auto" is the GPU of this process if there is one, otherwise
            the CPU.
        trust_remote_code: run code of the model's repository if the model comes with its own.
        random_weights: None takes the trained weights. With a seed they are random; the same seed gives the same
            weights, whatever the device and the global generators.
        randomise: what is random with a seed. "all": all weights are drawn anew by the model's own initialiser, from
            the configuration alone. "all_but_embeddings": the same but for the weights that hidden state 0 depends on,
            see `embedding_weights`, which are the trained ones. "shuffled": within each trained weight, the entries
            change places.

    Raises:
        OSError: the configuration or the weights cannot be reached or read.
        ValueError: an argument is not one of the above, transformers lacks the architecture, or the files lack some
            weights or hold them in another shape. A pooler's weights may be absent: no hidden state depends on them.

    Example:
        >>> load_model("sentence-transformers/all-MiniLM-L6-v2", dtype="float64")
        Traceback (most recent call last):
        ...
        ValueError: dtype is 'float64': give one of float32, bfloat16, float16
    """
    from transformers import AutoConfig, AutoModel

    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}: give one of {', '.join(DTYPES)}")
    check_randomise(randomise, random_weights)
    place = find_device(device)
    cure = "" if trust_remote_code else ", or set trust_remote_code to true if you trust the authors of that code"
    options: dict[str, Any] = {"dtype": DTYPES[dtype], "trust_remote_code": trust_remote_code}
    with quiet_loading():
        with config_errors(model, revision, cure):
            config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=trust_remote_code)
        if random_weights is None:
            body = _trained(model, revision, config, options)
        elif randomise == "shuffled":
            body = _trained(model, revision, config, options)
            shuffle_weights(body, random_weights)
        else:
            kept = {} if randomise == "all" else embedding_weights(_trained(model, revision, config, options))
            with config_errors(model, revision, cure), torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(random_weights)  # torch.manual_seed would reseed the GPUs too
                body = _without_decoder(AutoModel.from_config(config, **options))
            for name, weight in kept.items():
                body.get_parameter(name).data.copy_(weight)
    model_body: PreTrainedModel = body.eval().requires_grad_(False).to(place)
    return model_body


def _trained(model: str, revision: str | None, config: Any, options: dict[str, Any]) -> "PreTrainedModel":
    """The body of the trained model, its weights checked."""
    from transformers import AutoModel

    with weight_errors(model):
        whole, loaded = AutoModel.from_pretrained(
            model, config=config, revision=revision, ignore_mismatched_sizes=True, output_loading_info=True, **options
        )
    body = _without_decoder(whole)
    check_weights(model, whole, body, loaded)
    return body


def _without_decoder(whole: "PreTrainedModel") -> "PreTrainedModel":
    """The encoder of an encoder-decoder; else the model itself."""
    encoder: PreTrainedModel = whole.get_encoder() if whole.config.is_encoder_decoder else whole
    return encoder


def longest_input(model: "PreTrainedModel") -> int | None:
    """Maximum number of tokens that a model takes; None if there is no limit."""
    longest: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for name, module in model.named_modules():
        # RoBERTa and similar models count positions from the one after the padding's.
        if longest is not None and name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            return longest if module.padding_idx is None else longest - module.padding_idx - 1
    return longest


def find_device(device: str) -> torch.device:
    """The device of a name, see `load_model`.

    Raises:
        ValueError: PyTorch cannot use it here.
    """
    name = _best_device() if device == "auto" else device
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # PyTorch raises the latter if it is built without CUDA
        raise ValueError(
            f"device is {device!r}, which PyTorch cannot use here: give auto, cpu or the name of a device it has. "
            f"{first_line(error)}"
        ) from error


def _best_device() -> str:
    """The GPU of this process if there is one; launchers of several processes number them."""
    if not torch.cuda.is_available():
        return "cpu"
    process = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))
    return f"cuda:{process % torch.cuda.device_count()}"


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence transformers' report on the weights, which are checked here, and its bar; downloads keep theirs."""
    from huggingface_hub.utils import enable_progress_bars  # type: ignore[attr-defined]
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if bars:
        logging.disable_progress_bar()
        enable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def check_weights(
    model: str, whole: "PreTrainedModel", body: "PreTrainedModel", loaded: dict[str, Any], cure: str = ""
) -> None:
    """Refuse weights of `body` that transformers has drawn at random because the files do not hold them.

    Args:
        model: its name, for the message.
        whole: what was loaded.
        body: the part of it that is used.
        loaded: what transformers says of the loading.
        cure: what else the user can do.

    Raises:
        ValueError: there are some.
    """
    misshapen = {
        name: f"{name} of shape {tuple(wanted)} (but of {tuple(found)})"
        for name, found, wanted in loaded["mismatched_keys"]
    }
    used = {id(weight) for weight in body.parameters()}
    absent = [
        misshapen.get(name, name)
        for name, weight in whole.named_parameters(remove_duplicate=False)
        if id(weight) in used
        and (name in loaded["missing_keys"] or name in misshapen)
        and "pooler" not in name.split(".")
    ]
    if absent:
        cure = cure or "random_weights for an untrained model"
        more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
        raise ValueError(
            f"model_name_or_path is {model!r}, and its files do not hold {', '.join(absent[:_NAMED])}{more}: give a "
            f"folder or a revision with the weights of the whole model, or {cure}"
        )

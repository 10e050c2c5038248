"""A transformer with its head, where it has one: what its output is, and its body within."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from sparsecode_transformer.errors import config_errors, weight_errors
from sparsecode_transformer.model import DTYPES, check_weights, find_device, load_model, quiet_loading
from sparsecode_transformer.random_weights import Randomise, check_randomise, shuffle_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Kind = Literal["causal", "encoder"]


@dataclass(frozen=True)
class WholeModel:
    """A model that gives its output.

    Attributes:
        kind: "causal" if the output is logits of the next token, "encoder" if it is a vector for each token.
        model: the whole.
        body: the part of it without a head, with the weights of `load_model`; of an encoder, the whole.
    """

    kind: Kind
    model: "PreTrainedModel"
    body: "PreTrainedModel"


def model_kind(config: Any) -> Kind:
    """Whether a model predicts the next token, by its configuration.

    It does if transformers has a causal language model of its type. Types that also have a masked one, such as BERT and
    RoBERTa, attend to both sides unless `is_decoder` is true in the configuration: else they are encoders. So are
    encoder-decoders, of which only the encoder reads the text.

    Args:
        config: of a Hugging Face model.

    Example:
        >>> from transformers import BertConfig, GPT2Config, T5Config
        >>> model_kind(GPT2Config()), model_kind(BertConfig()), model_kind(BertConfig(is_decoder=True))
        ('causal', 'encoder', 'causal')
        >>> model_kind(T5Config())
        'encoder'
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    if getattr(config, "is_encoder_decoder", False):
        return "encoder"
    own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not own_code:
        return "causal" if getattr(config, "is_decoder", False) else "encoder"
    return "causal" if own_code or config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else "encoder"


def load_whole_model(
    model: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    trust_remote_code: bool = False,
    random_weights: int | None = None,
    randomise: Randomise = "all",
) -> WholeModel:
    """Load a transformer with its head, in eval mode and without gradients.

    The arguments are those of `load_model`, and so are the weights of the body. With random weights the head is random
    too: as before training, or, if they are shuffled, shuffled. A head that shares the weights of the embeddings has
    theirs.

    Raises:
        OSError: the configuration or the weights cannot be reached or read.
        ValueError: an argument is out of its range, transformers lacks the architecture, or the files lack some
            weights, such as those of the head, which transformers would draw at random.
    """
    from transformers import AutoConfig

    place = find_device(device)
    check_randomise(randomise, random_weights)
    with config_errors(model, revision):
        config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=trust_remote_code)
    kind = model_kind(config)
    settings: dict[str, Any] = {"revision": revision, "dtype": dtype, "trust_remote_code": trust_remote_code}
    body = None
    if kind == "encoder" or random_weights is not None:
        body = load_model(model, device=device, random_weights=random_weights, randomise=randomise, **settings)
        if kind == "encoder":
            return WholeModel(kind, body, body)
    options: dict[str, Any] = {"dtype": DTYPES[dtype], "trust_remote_code": trust_remote_code}
    with quiet_loading():
        if random_weights is None or randomise == "shuffled":
            whole = _trained(model, revision, config, options)
        else:
            whole = _untrained(random_weights, config, options)
    if random_weights is not None and randomise == "shuffled":
        shuffle_weights(whole, random_weights)
    within = whole.base_model
    if within is whole:
        raise ValueError(
            f"model_name_or_path is {model!r}, and it is not known which part of this {type(whole).__name__} is its "
            "body, so that nothing can be replaced there: leave loss out"
        )
    if body is not None:
        _copy_weights(body, within)
    whole = whole.eval().requires_grad_(False).to(place)
    return WholeModel(kind, whole, within)


def _trained(model: str, revision: str | None, config: Any, options: dict[str, Any]) -> Any:
    """The trained model, its weights checked."""
    from transformers import AutoModelForCausalLM

    options = options | {"ignore_mismatched_sizes": True, "output_loading_info": True}
    with weight_errors(model):
        found: Any = AutoModelForCausalLM.from_pretrained(model, config=config, revision=revision, **options)
    whole, loaded = found
    check_weights(model, whole, whole, loaded, cure="leave loss out, which needs the head")
    return whole


def _untrained(seed: int, config: Any, options: dict[str, Any]) -> Any:
    """The model before training."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs too
        return AutoModelForCausalLM.from_config(config, **options)


def _copy_weights(body: "PreTrainedModel", within: Any) -> None:
    """Give the body of a whole model the weights of another."""
    weights = dict(body.named_parameters())
    for name, weight in within.named_parameters():
        weight.data.copy_(weights[name])

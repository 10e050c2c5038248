"""Autoencoders of EleutherAI's sparsify, read from `cfg.json` and `sae.safetensors` without that package."""

import re
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sparsecode_pl.interchange.autoencoder import Autoencoder, Origin
from sparsecode_pl.interchange.hooks import names_a_module
from sparsecode_pl.utilities.plain import check_type, parse_json

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"

# What makes it something else than an autoencoder of its own input.
_OTHERS = ("transcode", "skip_connection", "embed_skip", "gram_lookup")


class _Config(TypedDict):
    """What the configuration must or may hold."""

    d_in: int
    k: int
    activation: NotRequired[str]
    signed: NotRequired[bool]


class _TopActivations(nn.Module):
    """The encoder: the k largest activations of a row, or the largest of each of k groups.

    Args:
        weight: (m, d).
        bias: of the encoder, (m,).
        shift: what is subtracted from the input, (d,).
        k: how many activations a row has, at most.
        kind: how they are chosen.
        signed: whether they are chosen by magnitude and keep their sign.
    """

    weight: Tensor
    bias: Tensor
    shift: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor, shift: Tensor, k: int, kind: Literal["topk", "groupmax"], signed: bool
    ) -> None:
        super().__init__()
        for name, tensor in (("weight", weight), ("bias", bias), ("shift", shift)):
            self.register_buffer(name, tensor.float())
        self.k = k
        self.kind = kind
        self.signed = signed

    def forward(self, x: Tensor) -> Tensor:
        """Feature activations, (n, m), of activations x (n, d)."""
        before = nn.functional.linear(x - self.shift, self.weight, self.bias)
        if not self.signed:
            before = before.relu()
        if self.kind == "topk":
            chosen = (before.abs() if self.signed else before).topk(self.k, dim=1, sorted=False).indices
        else:
            groups = before.unflatten(1, (self.k, -1))
            first = torch.arange(self.k, device=x.device) * groups.shape[2]
            chosen = groups.argmax(dim=2) + first
        return torch.zeros_like(before).scatter_(1, chosen, before.gather(1, chosen))


def read_sparsify(folder: Path, name: str, model: str | None = None) -> Autoencoder:
    """Read a folder that sparsify has written.

    Args:
        folder: local. If its name is that of a module, such as "layers.3", that is its place in the model.
        name: what messages and tables call it.
        model: the model that it was trained on, if known.

    Raises:
        ValueError: the files are damaged, or it is no autoencoder of its own input.
    """
    try:
        config = parse_json((folder / CONFIG).read_bytes())
        check_type("", config, _Config)
        tensors = load_file(folder / WEIGHTS)
        return _made(config, tensors, Origin(name, config.get("activation", "topk"), model, _place(folder)))
    except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(
            f"sae is {name!r}, which cannot be read as an autoencoder of sparsify: {reason}. Give a folder with its "
            f"{CONFIG} and {WEIGHTS}"
        ) from error


def _place(folder: Path) -> str | None:
    """The module that a folder is named after. Where there are several seeds, they are in folders of their own."""
    name = folder.parent.name if re.fullmatch(r"seed\d+", folder.name) else folder.name
    return name if names_a_module(name) else None


def _made(config: dict[str, Any], tensors: dict[str, Tensor], origin: Origin) -> Autoencoder:
    for other in _OTHERS:
        if config.get(other) or (other == "skip_connection" and "W_skip" in tensors):
            raise ValueError(f"it has {other}, and only what reconstructs its own input alone can be read")
    kind, k = config.get("activation", "topk"), config["k"]
    if kind not in ("topk", "groupmax"):
        raise ValueError(f"its activation is {kind!r}, and topk and groupmax can be read")
    weight, decoder = tensors["encoder.weight"], tensors["W_dec"]
    if weight.shape != decoder.shape or weight.shape[1] != config["d_in"]:
        raise ValueError(
            f"its encoder has shape {tuple(weight.shape)} and its decoder {tuple(decoder.shape)}, and d_in is "
            f"{config['d_in']}"
        )
    if not 1 <= k <= len(weight) or (kind == "groupmax" and len(weight) % k):
        raise ValueError(f"its k is {k}, and it has {len(weight)} features")
    signed = bool(config.get("signed"))
    encoder = _TopActivations(weight, tensors["encoder.bias"], tensors["b_dec"], k, kind, signed)
    return Autoencoder(
        encoder,
        decoder.float(),
        tensors["b_dec"].float(),
        signed=signed,
        origin=origin,
        settings={"library": "sparsify", "k": k, "activation": kind},
    )

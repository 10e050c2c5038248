"""A short mark of settings and tensors, by which two autoencoders are told apart."""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor


def fingerprint_of(settings: Mapping[str, object], tensors: Mapping[str, Tensor]) -> str:
    """The first 16 hexadecimal digits of a SHA-256 of settings and tensors. Order and device make no difference.

    Args:
        settings: plain values.
        tensors: of any types and shapes.

    Example:
        >>> one = fingerprint_of({"k": 3}, {"bias": torch.zeros(2)})
        >>> one == fingerprint_of({"k": 3}, {"bias": torch.zeros(2)}), one == fingerprint_of({"k": 4}, {})
        (True, False)
    """
    found = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]

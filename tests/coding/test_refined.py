import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecode_pl.coding import RefinedCoder, greedy_encode, lasso_encode, reconstruct, refined_encode, threads

BACKENDS = ["torch", "numba"]


def problem(n, m, d, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=dtype)
    atoms = torch.nn.functional.normalize(torch.randn(m, d, generator=generator, dtype=dtype), dim=1)
    return x, atoms


def objective(x, atoms, codes, lam):
    """Objective of each sample, in float64."""
    codes = codes.to_dense().double()
    return (x.double() - codes @ atoms.double()).square().sum(1) + lam * codes.sum(1)


def refined(x, atoms, lam, start, rounds, sweeps):
    """The refinement as `refined_encode` describes it, in plain Python, from greedy codes."""
    codes = start.copy()
    for j, sample in enumerate(x):
        for number in range(rounds):
            residual = sample - codes[j] @ atoms
            mine = codes[j] > 0
            if number:
                mine |= atoms @ residual > lam / 2
            for _ in range(sweeps):
                for i in mine.nonzero()[0]:
                    a = max(0.0, codes[j, i] + 1.5 * (atoms[i] @ residual - lam / 2))
                    residual = residual - (a - codes[j, i]) * atoms[i]
                    codes[j, i] = a
    return codes


random_problems = given(
    n=st.integers(1, 4),
    m=st.integers(1, 40),
    d=st.integers(1, 8),
    seed=st.integers(0, 10**6),
    lam=st.floats(0.05, 3),
    rounds=st.integers(1, 4),
    sweeps=st.integers(1, 4),
)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=40, deadline=None)
@random_problems
def test_equals_a_transcription_of_its_description(appendix_c, backend, n, m, d, seed, lam, rounds, sweeps):
    x, atoms = problem(n, m, d, seed)
    codes = refined_encode(x, atoms, lam, rounds=rounds, sweeps=sweeps, backend=backend).to_dense().numpy()
    start = appendix_c(x.numpy(), atoms.numpy(), lam)
    np.testing.assert_allclose(codes, refined(x.numpy(), atoms.numpy(), lam, start, rounds, sweeps), atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_round_and_no_sweep_raises_the_objective(backend, dtype):
    x, atoms = problem(100, 80, 16, seed=0, dtype=dtype)
    lam = 0.2
    last = objective(x, atoms, greedy_encode(x, atoms, lam), lam)
    slack = 1e-5 if dtype == torch.float32 else 1e-12
    for rounds, sweeps in ((1, 1), (1, 3), (2, 3), (3, 3), (6, 3)):
        codes = refined_encode(x, atoms, lam, rounds=rounds, sweeps=sweeps, backend=backend)
        assert codes.dtype == dtype
        now = objective(x, atoms, codes, lam)
        assert (now <= last + slack * last).all()
        assert now.sum() < last.sum()
        last = now


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_rounds_reach_the_exact_codes(backend):
    x, atoms = problem(10, 60, 24, seed=1)
    codes = refined_encode(x, atoms, 0.4, rounds=60, sweeps=2, backend=backend)
    exact = lasso_encode(x, atoms, 0.4, tol=1e-10).codes
    torch.testing.assert_close(objective(x, atoms, codes, 0.4), objective(x, atoms, exact, 0.4), rtol=1e-9, atol=0)
    # The conditions of the minimum: correlations are lam/2 for atoms with a code, and no more for the others.
    codes, dots = codes.to_dense(), (x - reconstruct(codes, atoms)) @ atoms.T
    assert (dots[codes > 0] - 0.2).abs().max() < 1e-6
    assert dots[codes == 0].max() < 0.2 + 1e-6


def test_the_defaults_are_nearly_exact_where_greedy_is_not():
    generator = torch.Generator().manual_seed(2)
    atoms = torch.nn.functional.normalize(torch.randn(512, 64, generator=generator), dim=1)
    truth = torch.rand(200, 512, generator=generator) * (torch.rand(200, 512, generator=generator) < 20 / 512)
    x, lam = truth @ atoms, 0.08
    greedy, found, exact = (
        objective(x, atoms, codes, lam).sum()
        for codes in (greedy_encode(x, atoms, lam), RefinedCoder()(x, atoms, lam), lasso_encode(x, atoms, lam).codes)
    )
    assert greedy > 1.1 * exact
    assert found < 1.02 * exact


@pytest.mark.parametrize("backend", BACKENDS)
def test_orthogonal_atoms_have_a_closed_form(backend):
    x, square = problem(50, 12, 12, seed=3)
    atoms = torch.linalg.qr(square).Q.T.contiguous()
    codes = refined_encode(x, atoms, 0.6, backend=backend)
    torch.testing.assert_close(codes.to_dense(), (x @ atoms.T - 0.3).clamp(min=0))
    assert (codes.values() > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("m", "d"), [(1, 5), (15, 8), (16, 8), (17, 8), (700, 64)])  # around groups of correlations
def test_backends_agree(m, d, dtype):
    x, atoms = problem(40, m, d, seed=m, dtype=dtype)
    one, two = (refined_encode(x, atoms, 0.5, backend=backend) for backend in BACKENDS)
    assert one.dtype == two.dtype == dtype
    torch.testing.assert_close(one.to_dense(), two.to_dense(), atol=1e-3 if dtype == torch.float32 else 1e-9, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_sample_empty_samples_and_no_atom_worth_taking(backend):
    x, atoms = problem(5, 7, 4, seed=4)
    x[2] = 0
    assert refined_encode(x[:0], atoms, 0.1, backend=backend).shape == (0, 7)
    counts = refined_encode(x, atoms, 0.1, backend=backend).crow_indices().diff()
    assert counts[2] == 0
    assert counts.sum() > 0
    none = refined_encode(x, atoms, 1000.0, backend=backend)
    assert none.shape == (5, 7)
    assert none.values().numel() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_atom_that_greedy_should_not_have_taken_is_dropped(backend):
    fourth = torch.nn.functional.normalize(torch.tensor([[0.8, 0.55, -0.5]]).double())
    atoms, x = torch.cat([torch.eye(3).double(), fourth]), torch.tensor([[2.0, 2.0, 0.2]]).double()
    assert 3 in greedy_encode(x, atoms, 0.2).col_indices()  # nearest to x, and needless beside the other three
    expected = torch.tensor([[1.9, 1.9, 0.1, 0.0]]).double()  # leaves lam/2 for each of them, and less for the fourth
    torch.testing.assert_close(refined_encode(x, atoms, 0.2, rounds=50, backend=backend).to_dense(), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_codes_are_a_valid_csr_matrix_whatever_the_layout_of_the_input(backend):
    x, atoms = problem(40, 300, 8, seed=5)
    before = x.clone(), atoms.clone()
    codes = refined_encode(x, atoms, 0.2, backend=backend)
    assert (codes.values() > 0).all()
    torch.sparse_csr_tensor(
        codes.crow_indices(), codes.col_indices(), codes.values(), codes.shape, check_invariants=True
    )
    every_second = refined_encode(x[::2], atoms.T.contiguous().T, 0.2, backend=backend).to_dense()
    torch.testing.assert_close(every_second, codes.to_dense()[::2])
    assert torch.equal(x, before[0])
    assert torch.equal(atoms, before[1])


def test_chunks_of_samples_and_little_memory_make_no_difference(monkeypatch):
    x, atoms = problem(50, 30, 8, seed=6)
    whole = refined_encode(x, atoms, 0.2).to_dense()
    for backend in BACKENDS:
        torch.testing.assert_close(refined_encode(x, atoms, 0.2, backend=backend, memory=5000).to_dense(), whole)
    monkeypatch.setattr(threads, "CHUNK_BYTES", 7 * 30 * 8)
    torch.testing.assert_close(refined_encode(x, atoms, 0.2).to_dense(), whole)


def test_scale_of_x_and_lam_together_scales_the_codes():
    x, atoms = problem(60, 40, 8, seed=7)
    one, two = refined_encode(x, atoms, 0.3), refined_encode(8 * x, atoms, 8 * 0.3)
    assert torch.equal(one.col_indices(), two.col_indices())
    torch.testing.assert_close(8 * one.values(), two.values())


def test_inference_mode_autocast_and_gradients_make_no_difference():
    x, atoms = problem(60, 40, 8, seed=8, dtype=torch.float32)
    plain = refined_encode(x, atoms, 0.3)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        inside = refined_encode(x.clone(), atoms.clone(), 0.3).to_dense()
    torch.testing.assert_close(inside.clone(), plain.to_dense())
    learnt = RefinedCoder()(x, atoms.clone().requires_grad_(), 0.3)
    assert not learnt.requires_grad
    assert torch.equal(learnt.values(), plain.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds is 0: give at least 1"),
        ({"sweeps": 0}, "sweeps is 0: give at least 1"),
        ({"backend": "triton"}, "backend is 'triton': give one of auto, torch, numba"),
    ],
)
def test_bad_arguments_are_named_with_their_cure(options, message):
    x, atoms = problem(3, 4, 2, seed=9)
    with pytest.raises(ValueError, match=message):
        refined_encode(x, atoms, 0.1, **options)

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from sklearn.linear_model import Lasso

from sparsecode_pl.coding import csr_codes, greedy_encode, lasso_encode, threads

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


def scikit_learn(x, atoms, lam):
    """Codes by scikit-learn, whose objective is ours over 2d, with alpha = lam / (2d)."""
    model = Lasso(alpha=lam / 2 / x.shape[1], positive=True, fit_intercept=False, tol=1e-13, max_iter=10**6)
    return torch.from_numpy(np.stack([model.fit(atoms.T.numpy(), row.numpy()).coef_ for row in x]))


random_problems = given(
    n=st.integers(1, 4),
    m=st.integers(1, 20),
    d=st.integers(1, 8),
    seed=st.integers(0, 10**6),
    lam=st.floats(0.05, 3),
)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=40, deadline=None)
@random_problems
def test_no_objective_is_lower_than_scikit_learns_and_the_gap_bounds_what_is_missing(backend, n, m, d, seed, lam):
    x, atoms = problem(n, m, d, seed)
    best = objective(x, atoms, scikit_learn(x, atoms, lam), lam)
    for tol in (0.1, 1e-6):
        codes, gap, _ = lasso_encode(x, atoms, lam, tol=tol, backend=backend)
        ours = objective(x, atoms, codes, lam)
        assert ((gap >= -1e-12) & (gap <= tol)).all()
        assert (ours - best >= -1e-9 * ours).all()
        assert (ours - best <= gap * ours + 1e-9 * ours).all()


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 4), m=st.integers(1, 8), seed=st.integers(0, 10**6), lam=st.floats(0.05, 3))
def test_codes_equal_scikit_learns_where_they_are_unique(backend, n, m, seed, lam):
    x, atoms = problem(n, m, 24, seed)  # atoms far from dependent
    codes = lasso_encode(x, atoms, lam, tol=1e-10, backend=backend).codes.to_dense()
    torch.testing.assert_close(codes, scikit_learn(x, atoms, lam), atol=1e-4, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gap_is_that_of_the_codes_returned(backend, dtype):
    x, atoms = problem(60, 200, 24, seed=0, dtype=dtype)
    lam = 0.2
    codes, gap, _ = lasso_encode(x, atoms, lam, tol=1e-3, backend=backend)
    x, atoms, codes = x.double(), atoms.double(), codes.to_dense().double()
    residual = x - codes @ atoms
    theta = residual * (lam / 2 / (residual @ atoms.T).amax(1)).clamp(max=1)[:, None]
    primal = residual.square().sum(1) + lam * codes.sum(1)
    dual = x.square().sum(1) - (x - theta).square().sum(1)
    torch.testing.assert_close(gap, (primal - dual) / primal, atol=1e-5 if dtype == torch.float32 else 1e-12, rtol=0)
    assert (gap <= 1e-3).all()
    assert gap.dtype == torch.float64


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_penalty_above_every_correlation_gives_no_codes_and_no_gap(backend):
    x, atoms = problem(30, 40, 8, seed=1)
    codes, gap, iterations = lasso_encode(x, atoms, 2.001 * float((x @ atoms.T).max()), backend=backend)
    assert codes.shape == (30, 40)
    assert codes.values().numel() == 0
    assert gap.abs().max() < 1e-14
    assert iterations.tolist() == [0] * 30


@pytest.mark.parametrize("backend", BACKENDS)
def test_orthogonal_atoms_have_a_closed_form(backend):
    x, square = problem(50, 12, 12, seed=2)
    atoms = torch.linalg.qr(square).Q.T.contiguous()
    codes = lasso_encode(x, atoms, 0.6, tol=1e-12, backend=backend).codes
    torch.testing.assert_close(codes.to_dense(), (x @ atoms.T - 0.3).clamp(min=0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_codes_are_no_worse_than_greedy_ones(backend, dtype):
    x, atoms = problem(200, 64, 16, seed=3, dtype=dtype)
    exact, greedy = lasso_encode(x, atoms, 0.3, backend=backend).codes, greedy_encode(x, atoms, 0.3)
    better = objective(x, atoms, greedy, 0.3) - objective(x, atoms, exact, 0.3)
    assert (better >= -1e-4).all()
    assert better.mean() > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("m", "d"), [(1, 5), (255, 16), (256, 16), (257, 16), (700, 128)])  # around blocks and lanes
def test_backends_agree(m, d, dtype):
    x, atoms = problem(40, m, d, seed=m, dtype=dtype)
    tol = 1e-4 if dtype == torch.float32 else 1e-7
    one, two = (lasso_encode(x, atoms, 0.5, tol=tol, backend=backend) for backend in BACKENDS)
    assert one.codes.dtype == two.codes.dtype == dtype
    objectives = [objective(x, atoms, found.codes, 0.5) for found in (one, two)]
    torch.testing.assert_close(*objectives, rtol=tol, atol=0)
    assert (one.codes.to_dense() - two.codes.to_dense()).abs().max() < 0.1


@pytest.mark.parametrize("backend", BACKENDS)
def test_warm_start_gives_the_same_in_fewer_iterations(backend):
    x, atoms = problem(100, 60, 32, seed=4)
    cold = lasso_encode(x, atoms, 0.2, tol=1e-8, backend=backend)
    near = lasso_encode(x, atoms, 0.2001, tol=1e-8, backend=backend).codes
    warm = lasso_encode(x, atoms, 0.2, tol=1e-8, backend=backend, warm_start=near)
    torch.testing.assert_close(warm.codes.to_dense(), cold.codes.to_dense(), atol=1e-3, rtol=0)
    assert warm.iterations.sum() < cold.iterations.sum()
    again = lasso_encode(x, atoms, 0.2, tol=2e-8, backend=backend, warm_start=cold.codes)
    assert again.iterations.max() <= 1
    torch.testing.assert_close(again.codes.to_dense(), cold.codes.to_dense(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bad_warm_start_is_overcome(backend):
    x, atoms = problem(20, 150, 8, seed=5)
    dense = torch.rand(20, 150, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    codes, gap, _ = lasso_encode(x, atoms, 0.3, backend=backend, warm_start=dense.to_sparse_csr())
    assert gap.max() <= 1e-4
    best = lasso_encode(x, atoms, 0.3, tol=1e-7).codes
    torch.testing.assert_close(objective(x, atoms, codes, 0.3), objective(x, atoms, best, 0.3), rtol=1e-4, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_atoms_that_are_equal_or_opposite_do_not_trouble_it(backend, dtype):
    x, atoms = problem(30, 20, 8, seed=6, dtype=dtype)
    many = torch.cat([atoms, atoms, -atoms, atoms])
    one, four = (lasso_encode(x, f, 0.3, backend=backend) for f in (torch.cat([atoms, -atoms]), many))
    assert four.gap.max() <= 1e-4
    assert four.iterations.max() < 2000
    torch.testing.assert_close(
        objective(x, many, four.codes, 0.3),
        objective(x, torch.cat([atoms, -atoms]), one.codes, 0.3),
        rtol=2e-4,
        atol=0,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_too_few_iterations_show_in_the_gap_and_in_a_warning(backend):
    x, atoms = problem(30, 100, 16, seed=7)
    with pytest.warns(UserWarning, match=r"of 30 samples stopped .* above tol, 1e-08 .* raise max_iter from 2"):
        codes, gap, iterations = lasso_encode(x, atoms, 0.1, tol=1e-8, max_iter=2, backend=backend)
    assert iterations.max() == 2
    assert gap.max() > 1e-8
    ours, best = (objective(x, atoms, c, 0.1) for c in (codes, lasso_encode(x, atoms, 0.1, tol=1e-9).codes))
    assert (ours - best <= gap * ours).all()
    assert (ours - best).max() > 1e-8 * ours.max()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore:.*stopped at a relative duality gap")
def test_a_tolerance_beyond_float32_ends_soon_near_what_float32_can(backend):
    x, atoms = problem(10, 40, 16, seed=8, dtype=torch.float32)
    gap, iterations = lasso_encode(x, atoms, 0.3, tol=1e-12, max_iter=1000, backend=backend)[1:]
    assert gap.max() < 1e-6 * x.norm(dim=1).max() / 0.3
    if backend == "numba":
        assert iterations.max() < 500


@pytest.mark.parametrize("backend", BACKENDS)
def test_small_and_empty_problems(backend):
    atoms = torch.tensor([[1.0]])
    codes, gap, _ = lasso_encode(torch.tensor([[3.0], [0.0], [-1.0]]), atoms, 1.0, backend=backend)
    assert codes.to_dense().tolist() == [[2.5], [0], [0]]
    assert gap.tolist() == [0, 0, 0]
    codes, gap, iterations = lasso_encode(torch.empty(0, 1), atoms, 1.0, backend=backend)
    assert codes.shape == (0, 1)
    assert gap.shape == iterations.shape == (0,)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scale_of_x_and_lam_together_scales_the_codes(backend):
    x, atoms = problem(60, 40, 8, seed=9)
    one, two = (lasso_encode(scale * x, atoms, scale * 0.3, backend=backend) for scale in (1, 8))
    torch.testing.assert_close(8 * one.codes.to_dense(), two.codes.to_dense())
    torch.testing.assert_close(one.gap, two.gap)


@pytest.mark.parametrize("backend", BACKENDS)
def test_codes_are_a_valid_csr_matrix_without_zeros_and_input_stays_and_may_be_strided(backend):
    x, atoms = problem(40, 300, 8, seed=10)
    before = x.clone(), atoms.clone()
    codes = lasso_encode(x[::2], atoms.T.contiguous().T, 0.2, backend=backend).codes
    parts = codes.crow_indices(), codes.col_indices(), codes.values(), codes.shape
    checked = torch.sparse_csr_tensor(*parts, check_invariants=True)
    assert (codes.values() > 0).all()
    assert torch.equal(x, before[0])
    assert torch.equal(atoms, before[1])
    torch.testing.assert_close(checked.to_dense(), lasso_encode(x, atoms, 0.2, backend=backend).codes.to_dense()[::2])


@pytest.mark.parametrize("warm", [False, True])
def test_chunks_of_samples_make_no_difference(monkeypatch, warm):
    x, atoms = problem(50, 30, 8, seed=11)
    start = greedy_encode(x, atoms, 0.3) if warm else None
    whole = lasso_encode(x, atoms, 0.2, warm_start=start)
    monkeypatch.setattr(threads, "CHUNK_BYTES", 7 * 30 * 8)
    parts = lasso_encode(x, atoms, 0.2, warm_start=start)
    torch.testing.assert_close(whole.codes.to_dense(), parts.codes.to_dense())
    torch.testing.assert_close(whole.gap, parts.gap)


def test_working_sets_grow_beyond_their_first_room():
    x, atoms = problem(4, 400, 300, seed=12)
    codes, gap, _ = lasso_encode(x, atoms, 0.001)
    assert codes.crow_indices().diff().min() > 130
    assert gap.max() <= 1e-4


# Sweeps or gradient steps in 16 dimensions or fewer, after which the active set takes over.
PATIENCE = {"numba": 50, "torch": 200}


def certificate(x, atoms, codes, lam):
    """Relative duality gap of each sample, and the correlations of the residual, in float64."""
    x, atoms, codes = x.double(), atoms.double(), codes.to_dense().double()
    residual = x - codes @ atoms
    dots = residual @ atoms.T
    theta = residual * (lam / 2 / dots.amax(1).clamp(min=1e-300)).clamp(max=1)[:, None]
    primal = residual.square().sum(1) + lam * codes.sum(1)
    return (primal - x.square().sum(1) + (x - theta).square().sum(1)) / primal, dots


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lam", [0.1, 0.01, 0.001])
def test_every_sample_reaches_the_gap_where_atoms_crowd_the_sphere(backend, lam):
    x, atoms = problem(200, 512, 16, seed=15)
    codes, gap, iterations = lasso_encode(x, atoms, lam, backend=backend)
    true_gap, _ = certificate(x, atoms, codes, lam)
    assert true_gap.max() <= 1.0001e-4
    torch.testing.assert_close(gap, true_gap, atol=1e-10, rtol=0)
    exchanged = iterations > PATIENCE[backend]
    assert exchanged.sum() > 150
    assert codes.crow_indices().diff()[exchanged].max() <= 16
    assert iterations.max() <= PATIENCE[backend] + 100


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("m", "d"), [(40, 1), (200, 2), (300, 8)])
def test_codes_that_exchanges_find_are_optimal(backend, m, d):
    x, atoms = problem(20, m, d, seed=16)
    codes = lasso_encode(x, atoms, 1e-3, tol=1e-9, backend=backend).codes
    dots = certificate(x, atoms, codes, 1e-3)[1]
    assert dots.max() <= 0.5e-3 * (1 + 1e-8)  # no atom would lower the objective
    in_use = codes.to_dense() > 0
    torch.testing.assert_close(dots[in_use], torch.full_like(dots[in_use], 0.5e-3), atol=1e-11, rtol=0)


def nearest_point(x, atoms, half):
    """The point nearest to x whose correlations are at most `half`: the residual of the exact codes.

    Least-distance programming by non-negative least squares (Lawson and Hanson 1974, chapter 23).
    """
    last = atoms @ x - half
    system = np.concatenate([-atoms.T, last[None]])
    target = np.append(np.zeros(len(x)), 1.0)
    rest = system @ nnls(system, target, maxiter=10**4)[0] - target
    return x - rest[:-1] / rest[-1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lam", [1.0, 0.1, 0.01])
def test_the_residual_is_the_point_that_non_negative_least_squares_finds(backend, lam):
    x, atoms = problem(10, 60, 5, seed=17)
    codes = lasso_encode(x, atoms, lam, tol=1e-10, backend=backend).codes
    expected = np.stack([nearest_point(row, atoms.numpy(), lam / 2) for row in x.numpy()])
    torch.testing.assert_close(x - codes.to_dense() @ atoms, torch.from_numpy(expected), atol=1e-7, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("apart", [0, 1e-12, 1e-8, 1e-4])
def test_atoms_that_are_nearly_equal_do_not_keep_samples_from_the_gap(backend, apart):
    x, atoms = problem(20, 100, 6, seed=18)
    near = torch.nn.functional.normalize(atoms + apart * problem(1, 100, 6, seed=19)[1], dim=1)
    many = torch.cat([near, atoms])
    x[0] = 0
    x[1] = -atoms.sum(0)
    codes, gap, iterations = lasso_encode(x, many, 1e-3, backend=backend)
    assert gap.max() <= 1e-4
    assert codes.to_dense()[0].max() == 0
    assert (iterations > PATIENCE[backend]).sum() > 10
    single = lasso_encode(x, atoms, 1e-3, backend=backend).codes
    torch.testing.assert_close(
        objective(x, many, codes, 1e-3), objective(x, atoms, single, 1e-3), rtol=2e-4 + 10 * apart, atol=1e-12
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_samples_outside_the_cone_of_the_atoms_have_no_codes(backend):
    x, atoms = problem(10, 300, 4, seed=20)
    codes, gap, _ = lasso_encode(-x.abs(), atoms.abs(), 1e-3, backend=backend)
    assert codes.values().numel() == 0
    assert gap.abs().max() < 1e-14


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore:.*stopped at a relative duality gap")
def test_in_float32_exchanges_go_as_far_as_rounding_lets_them_and_the_gap_says_how_far(backend):
    x, atoms = problem(40, 512, 16, seed=21, dtype=torch.float32)
    for lam in (1e-2, 1e-3, 1e-4):
        codes, gap, _ = lasso_encode(x, atoms, lam, backend=backend)
        true_gap, _ = certificate(x, atoms, codes, lam)
        torch.testing.assert_close(gap, true_gap, atol=1e-5, rtol=1e-2)
        assert (true_gap <= (3e-7 * x.norm(dim=1) / lam).clamp(min=1.1e-4)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_exchanges_stop_at_max_iter_and_the_gap_says_what_is_missing(backend):
    x, atoms = problem(10, 512, 16, seed=22)
    most = PATIENCE[backend] + 3
    with pytest.warns(UserWarning, match=f"raise max_iter from {most}"):
        codes, gap, iterations = lasso_encode(x, atoms, 1e-3, max_iter=most, backend=backend)
    assert iterations.max() == most
    torch.testing.assert_close(gap, certificate(x, atoms, codes, 1e-3)[0], atol=1e-10, rtol=0)


def test_exchanges_give_the_same_codes_each_time_and_with_both_backends():
    x, atoms = problem(40, 400, 12, seed=23)
    one, again = (lasso_encode(x, atoms, 1e-3).codes for _ in range(2))
    assert torch.equal(one.values(), again.values())
    other = lasso_encode(x, atoms, 1e-3, backend="torch", tol=1e-8).codes
    ours = lasso_encode(x, atoms, 1e-3, tol=1e-8).codes
    torch.testing.assert_close(objective(x, atoms, ours, 1e-3), objective(x, atoms, other, 1e-3), rtol=1e-8, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("m", "d", "lam"), [(500, 32, 0.5), (512, 16, 0.001)])
def test_gpu_agrees_with_cpu(m, d, lam):
    x, atoms = problem(300, m, d, seed=13)
    cpu, gpu = lasso_encode(x, atoms, lam), lasso_encode(x.cuda(), atoms.cuda(), lam)
    assert gpu.codes.device.type == gpu.gap.device.type == "cuda"
    assert gpu.gap.max() <= 1e-4
    torch.testing.assert_close(
        objective(x, atoms, gpu.codes.cpu(), lam), objective(x, atoms, cpu.codes, lam), rtol=1e-4, atol=0
    )


def bad_inputs():
    x, atoms = problem(4, 5, 3, seed=14, dtype=torch.float32)
    codes = greedy_encode(x, atoms, 0.1)
    negative = csr_codes(codes.crow_indices(), codes.col_indices(), -codes.values(), 5)
    parts = codes.crow_indices(), codes.col_indices() + 5, codes.values()
    outside = torch.sparse_csr_tensor(*parts, codes.shape, check_invariants=False)
    yield "lam", (x, atoms, 0.0), {}, "lam is 0.0: give a finite penalty above 0"
    yield "x", (x * torch.nan, atoms, 0.1), {}, "x: 12 values are NaN or infinite"
    yield "tol", (x, atoms, 0.1), {"tol": 0.0}, "tol is 0.0: give a relative duality gap above 0"
    yield "max_iter", (x, atoms, 0.1), {"max_iter": 0}, "max_iter is 0: give at least 1"
    yield "backend", (x, atoms, 0.1), {"backend": "fortran"}, "backend is 'fortran': give one of auto, torch, numba"
    yield "dense", (x, atoms, 0.1), {"warm_start": codes.to_dense()}, "warm_start is torch.strided .* give sparse CSR"
    yield "rows", (x[:3], atoms, 0.1), {"warm_start": codes}, r"warm_start .* shape \(4, 5\) .* codes \(3, 5\)"
    yield "sign", (x, atoms, 0.1), {"warm_start": negative}, "warm_start has values that are negative"
    yield "indices", (x, atoms, 0.1), {"warm_start": outside}, "warm_start is not a valid CSR matrix"


@pytest.mark.parametrize(("arguments", "options", "message"), [pytest.param(*b[1:], id=b[0]) for b in bad_inputs()])
def test_bad_input_is_named_with_its_cure(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        lasso_encode(*arguments, **options)

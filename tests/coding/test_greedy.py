import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecode_pl.coding import (
    Coder,
    GreedyCoder,
    csr_codes,
    greedy,
    greedy_encode,
    greedy_numba,
    reconstruct,
    threads,
)

WAYS = ["torch", "numba", "residual"]


def encode(x, atoms, lam, way, **options):
    """Greedy codes by a backend with its Gram matrix, or from the residual, which too little memory leads to."""
    if way == "residual":
        return greedy_encode(x, atoms, lam, memory=1, **options)
    return greedy_encode(x, atoms, lam, backend=way, gram=atoms @ atoms.T, **options)


def problem(n, m, d, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=dtype)
    atoms = torch.nn.functional.normalize(torch.randn(m, d, generator=generator, dtype=dtype), dim=1)
    return x, atoms


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 6),
    m=st.integers(1, 20),
    d=st.integers(1, 6),
    seed=st.integers(0, 10**6),
    lam=st.floats(0.01, 3),
    max_atoms=st.none() | st.integers(1, 5),
)
def test_equals_a_transcription_of_appendix_c(appendix_c, way, n, m, d, seed, lam, max_atoms):
    x, atoms = problem(n, m, d, seed)
    codes = encode(x, atoms, lam, way, max_atoms=max_atoms).to_dense().numpy()
    expected = appendix_c(x.numpy(), atoms.numpy(), lam, max_atoms)
    assert ((codes > 0) == (expected > 0)).all()
    np.testing.assert_allclose(codes, expected, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m", [1, 255, 256, 257, 700])  # around the compiled loop's blocks
def test_backends_agree(m, dtype):
    x, atoms = problem(50, m, 24, seed=m, dtype=dtype)
    one, *others = (encode(x, atoms, 0.5, way) for way in WAYS)
    for other in others:
        assert one.dtype == other.dtype == dtype
        assert torch.equal(one.crow_indices(), other.crow_indices())
        assert torch.equal(one.col_indices(), other.col_indices())
        torch.testing.assert_close(one.values(), other.values())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_step_lowers_the_objective_by_its_square(way, dtype):
    x, atoms = problem(200, 64, 16, seed=1, dtype=dtype)
    lam = 0.3
    codes = encode(x, atoms, lam, way)
    residual = x - reconstruct(codes, atoms)
    objective = residual.square().sum() + lam * codes.values().sum()
    torch.testing.assert_close(objective, x.square().sum() - codes.values().square().sum(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("way", WAYS)
def test_stops_where_the_paper_says(way):
    x, atoms = problem(100, 40, 8, seed=2)
    lam = 0.4
    codes = encode(x, atoms, lam, way).to_dense()
    dots = (x - codes @ atoms) @ atoms.T
    assert (dots[codes == 0] <= lam / 2 + 1e-9).all()  # no atom that was not chosen would still be taken
    assert (codes >= 0).all()


@pytest.mark.parametrize("way", WAYS)
def test_ties_go_to_the_lowest_index(way):
    atoms = torch.zeros(600, 2)
    atoms[:, 0] = 1.0
    codes = encode(torch.tensor([[2.0, 0.0]]), atoms, 1.0, way, max_atoms=1)
    assert codes.col_indices().tolist() == [0]
    codes = encode(torch.tensor([[2.0, 0.0]]), atoms, 1.0, way)
    assert codes.col_indices().tolist() == [0]  # 1.5 leaves a dot product of lam/2 with all the others: stop
    assert codes.values().tolist() == [1.5]


@pytest.mark.parametrize("way", WAYS)
def test_no_sample_no_code_and_no_atom_worth_taking(way):
    x, atoms = problem(5, 7, 4, seed=3, dtype=torch.float32)
    empty = encode(x[:0], atoms, 0.1, way)
    assert empty.shape == (0, 7)
    assert reconstruct(empty, atoms).shape == (0, 4)
    none = encode(x, atoms, 1000.0, way)
    assert none.shape == (5, 7)
    assert none.values().numel() == 0
    assert torch.equal(reconstruct(none, atoms), torch.zeros(5, 4))


@pytest.mark.parametrize("way", WAYS)
def test_scale_of_x_and_lam_together_scales_the_codes(way):
    x, atoms = problem(60, 40, 8, seed=4)
    one = encode(x, atoms, 0.3, way)
    two = encode(8 * x, atoms, 8 * 0.3, way)
    assert torch.equal(one.col_indices(), two.col_indices())
    torch.testing.assert_close(8 * one.values(), two.values())


@pytest.mark.parametrize("way", WAYS)
def test_leaves_its_input_alone_and_takes_it_strided(way):
    x, atoms = problem(30, 20, 8, seed=5)
    x_before, atoms_before = x.clone(), atoms.clone()
    whole = encode(x, atoms, 0.2, way).to_dense()
    every_second = encode(x[::2], atoms.T.contiguous().T, 0.2, way).to_dense()
    assert torch.equal(x, x_before)
    assert torch.equal(atoms, atoms_before)
    torch.testing.assert_close(every_second, whole[::2])


def test_chunks_of_samples_make_no_difference(monkeypatch):
    x, atoms = problem(50, 30, 8, seed=6)
    whole = greedy_encode(x, atoms, 0.2, backend="numba")
    monkeypatch.setattr(threads, "CHUNK_BYTES", 7 * 30 * 8)
    chunks = greedy_encode(x, atoms, 0.2, backend="numba")
    blocks = greedy_encode(x, atoms, 0.2, memory=8 * 7 * (30 + 2 * 8))
    for parts in (chunks, blocks):
        assert torch.equal(whole.crow_indices(), parts.crow_indices())
        torch.testing.assert_close(whole.to_dense(), parts.to_dense())


@pytest.mark.parametrize("lam", [0.01, 4.0])
def test_long_and_short_codes_are_sorted_alike(lam):  # by insertion, and by way of their places
    x, atoms = problem(20, 300, 200, seed=12)
    codes = encode(x, atoms, lam, "numba")
    counts = codes.crow_indices().diff()
    assert (counts.max() ** 2 <= 4 * 300) if lam == 4.0 else (counts.min() ** 2 > 4 * 300)
    torch.testing.assert_close(codes.to_dense(), encode(x, atoms, lam, "torch").to_dense())


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_gram_matrix_in_half_precision_costs_little(backend):
    x, atoms = problem(200, 300, 64, seed=13, dtype=torch.float32)
    gram = atoms @ atoms.T
    for kind, most in ((torch.float64, 1e-4), (torch.bfloat16, 2e-2)):
        codes = greedy_encode(x, atoms, 0.5, backend=backend, gram=gram.to(kind))
        assert codes.dtype == torch.float32
        exact = greedy_encode(x, atoms, 0.5, backend=backend, gram=gram)
        one, two = (((x - reconstruct(c, atoms)) ** 2).sum() + 0.5 * c.values().sum() for c in (codes, exact))
        assert abs(one / two - 1) < most


def test_the_gram_matrix_is_formed_where_it_fits_and_pays(monkeypatch):
    x, atoms = problem(10, 330, 8, seed=14)
    expected = encode(x, atoms, 0.2, "torch").to_dense()
    asked = []
    monkeypatch.setattr(greedy, "greedy_numba", lambda *a: asked.append(len(a[0])) or greedy_numba.greedy_numba(*a))
    for few, memory in ((10, None), (11, 330 * 330 * 8 - 1)):  # m > 32 n; a byte short
        more = torch.cat([x, x])[:few]
        torch.testing.assert_close(greedy_encode(more, atoms, 0.2, memory=memory).to_dense()[:10], expected)
    assert asked == []
    torch.testing.assert_close(greedy_encode(torch.cat([x, x]), atoms, 0.2).to_dense()[:10], expected)
    assert asked == [20]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu():
    x, atoms = problem(300, 500, 32, seed=7)
    cpu = greedy_encode(x, atoms, 0.5)
    gpu = greedy_encode(x.cuda(), atoms.cuda(), 0.5)
    assert gpu.device.type == "cuda"
    torch.testing.assert_close(gpu.cpu().to_dense(), cpu.to_dense())


@pytest.mark.parametrize("way", WAYS)
def test_autocast_makes_no_difference(way):
    x, atoms = problem(100, 60, 32, seed=15, dtype=torch.float32)
    plain = encode(x, atoms, 0.3, way)
    with torch.autocast("cpu", torch.bfloat16):
        cast = greedy_encode(x, atoms, 0.3, **({"memory": 1} if way == "residual" else {"backend": way}))
        assert GreedyCoder().bind(atoms).gram.dtype == torch.float32
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast.to_dense(), plain.to_dense())


def test_codes_are_a_valid_csr_matrix():
    x, atoms = problem(40, 300, 8, seed=8)
    for way in WAYS:
        codes = encode(x, atoms, 0.2, way)
        checked = torch.sparse_csr_tensor(
            codes.crow_indices(), codes.col_indices(), codes.values(), codes.shape, check_invariants=True
        )
        assert torch.equal(checked.to_dense(), codes.to_dense())


def test_coder_passes_its_settings_on():
    x, atoms = problem(20, 30, 8, seed=9)
    codes = GreedyCoder(max_atoms=2, backend="torch")(x, atoms, 0.01)
    assert codes.crow_indices().diff().max() == 2
    assert torch.equal(codes.to_dense(), greedy_encode(x, atoms, 0.01, max_atoms=2, backend="torch").to_dense())


def test_reconstruct_is_the_dense_product_with_its_gradient():
    x, atoms = problem(20, 30, 8, seed=10)
    codes = greedy_encode(x, atoms, 0.2)
    atoms.requires_grad_()
    sparse = reconstruct(codes, atoms)
    dense = codes.to_dense() @ atoms
    torch.testing.assert_close(sparse, dense)
    weights = torch.randn_like(dense)
    ours, theirs = (torch.autograd.grad((out * weights).sum(), atoms)[0] for out in (sparse, dense))
    torch.testing.assert_close(ours, theirs)


def test_csr_codes_has_the_shape_of_its_parts():
    codes = csr_codes(torch.tensor([0, 1, 1]), torch.tensor([3]), torch.tensor([2.0]), 5)
    assert codes.to_dense().tolist() == [[0, 0, 0, 2, 0], [0, 0, 0, 0, 0]]


def bad_inputs():
    x, atoms = problem(4, 5, 3, seed=11, dtype=torch.float32)
    nan_x, nan_atoms = x.clone(), atoms.clone()
    nan_x[2, 1] = torch.nan
    nan_atoms[3, 0] = torch.nan
    yield "lam zero", (x, atoms, 0.0), {}, r"lam is 0.0: give a finite penalty above 0"
    yield "lam negative", (x, atoms, -1.0), {}, r"lam is -1.0"
    yield "lam tiny", (x, atoms, 1e-60), {}, r"lam is 1e-60, half of which is 0.0 in torch.float32: scale x and lam"
    yield "lam huge", (x, atoms, 1e60), {}, r"lam is 1e\+60, half of which is inf"
    yield "lam nan", (x, atoms, float("nan")), {}, r"lam is nan"
    yield "atoms long", (x, 2 * atoms, 0.1), {}, r"atoms: 5 of 5 rows have an L2 norm that is not 1 \(first: row 0"
    yield "atoms nan", (x, nan_atoms, 0.1), {}, r"atoms: 1 of 5 rows .* \(first: row 3, norm nan\)"
    yield "atoms int", (x, atoms.int(), 0.1), {}, r"atoms have shape \(5, 3\) and dtype torch.int32"
    yield "x nan", (nan_x, atoms, 0.1), {}, r"x: 1 values are NaN or infinite \(first in row 2\)"
    yield "width", (x[:, :2], atoms, 0.1), {}, r"x has shape \(4, 2\), but the atoms have width 3"
    yield "dtype", (x.double(), atoms, 0.1), {}, r"x is torch.float64 .* atoms are torch.float32"
    yield "max_atoms", (x, atoms, 0.1), {"max_atoms": 0}, r"max_atoms is 0: give at least 1"
    yield "gram", (x, atoms, 0.1), {"gram": torch.eye(4)}, r"gram is torch.float32 of shape \(4, 4\) .*\(5, 5\)"
    yield "memory", (x, atoms, 0.1), {"memory": 0}, r"memory is 0: give a number of bytes"
    yield (
        "backend",
        (x, atoms, 0.1),
        {"backend": "fortran"},
        r"backend is 'fortran': give one of auto, torch, numba, triton",
    )


@pytest.mark.parametrize(("arguments", "options", "message"), [pytest.param(*b[1:], id=b[0]) for b in bad_inputs()])
def test_bad_input_is_named_with_its_cure(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        greedy_encode(*arguments, **options)


def test_a_coder_is_made_again_from_its_settings_and_nothing_else_is():
    settings = GreedyCoder(max_atoms=2, backend="torch").settings()
    again = Coder.from_settings(settings)
    assert isinstance(again, GreedyCoder)
    assert vars(again) == {"max_atoms": 2, "backend": "torch", "memory": None}
    with pytest.raises(ValueError, match="max_atoms is 0: give at least 1"):
        GreedyCoder(max_atoms=0)


@pytest.mark.parametrize("way", ["numba", "torch", "residual"])
def test_codes_do_not_depend_on_the_samples_beside_them(way):
    x, atoms = problem(1000, 300, 24, seed=12, dtype=torch.float32)
    settings = {"memory": 4 * 300**2 - 1} if way == "residual" else {"backend": way}
    whole = greedy_encode(x, atoms, 0.2, **settings).to_dense()
    for number in (2, 3, 8):
        for rank in range(number):
            part = greedy_encode(x[rank::number], atoms, 0.2, **settings).to_dense()
            assert torch.equal(part, whole[rank::number])

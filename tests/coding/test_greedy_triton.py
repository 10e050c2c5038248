"""On a machine without a GPU, Triton's interpreter runs the kernel; it is slow, so that the problems are small."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytest.importorskip("triton", reason="Triton is not installed")

from sparsecode_pl.coding import greedy, greedy_encode, greedy_triton, reconstruct  # noqa: E402


def problem(n, m, d, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=dtype)
    atoms = torch.nn.functional.normalize(torch.randn(m, d, generator=generator, dtype=dtype), dim=1)
    return x.to(DEVICE), atoms.to(DEVICE)


def encode(x, atoms, lam, max_atoms=None, gram_dtype=None):
    gram = (atoms @ atoms.T).to(gram_dtype or atoms.dtype)
    return greedy_encode(x, atoms, lam, max_atoms=max_atoms, backend="triton", gram=gram)


def objective(x, atoms, codes, lam):
    return ((x - reconstruct(codes, atoms)).square().sum() + lam * codes.values().sum()) / len(x)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 3),
    m=st.integers(1, 12),
    d=st.integers(1, 6),
    seed=st.integers(0, 10**6),
    lam=st.floats(0.01, 3),
    max_atoms=st.none() | st.integers(1, 5),
)
def test_equals_a_transcription_of_appendix_c(appendix_c, n, m, d, seed, lam, max_atoms):
    x, atoms = problem(n, m, d, seed)
    most = m if max_atoms is None else min(max_atoms, m)
    codes = encode(x, atoms, lam, most).to_dense().cpu().numpy()
    expected = appendix_c(x.cpu().numpy(), atoms.cpu().numpy(), lam, most)
    assert ((codes > 0) == (expected > 0)).all()
    np.testing.assert_allclose(codes, expected, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m", [1, 2, 31, 64, 65, 300, 3000])  # one part and several, whole and padded
def test_equals_the_torch_backend(m, dtype):
    x, atoms = problem(4, m, 24, seed=m, dtype=dtype)
    ours, theirs = encode(x, atoms, 1.0), greedy_encode(x, atoms, 1.0, backend="torch")
    assert ours.dtype == dtype
    assert ours.shape == (4, m)
    assert torch.equal(ours.crow_indices(), theirs.crow_indices())
    assert torch.equal(ours.col_indices(), theirs.col_indices())
    torch.testing.assert_close(ours.values(), theirs.values())


@pytest.mark.parametrize("m", [7, 600])
def test_ties_go_to_the_lowest_index(m):
    atoms = torch.zeros(m, 2, device=DEVICE)
    atoms[: m // 2, 1] = 1.0
    atoms[m // 2 :, 0] = 1.0
    x = torch.tensor([[2.0, 0.0], [3.0, 3.0]], device=DEVICE)
    codes = encode(x, atoms, 1.0)
    # The first choice leaves a dot product of lam/2 with all atoms that are like it: they are not taken.
    assert codes.crow_indices().tolist() == [0, 1, 3]
    assert codes.col_indices().tolist() == [m // 2, 0, m // 2]
    assert codes.values().tolist() == [1.5, 2.5, 2.5]
    assert encode(x, atoms, 1.0, max_atoms=1).col_indices().tolist() == [m // 2, 0]


def test_max_atoms_keeps_the_first_choices(appendix_c):
    x, atoms = problem(4, 150, 8, seed=1)
    counts = encode(x, atoms, 0.01, max_atoms=3).crow_indices().diff()
    assert (counts == 3).all()
    expected = appendix_c(x.cpu().numpy(), atoms.cpu().numpy(), 0.01, 3)
    np.testing.assert_allclose(encode(x, atoms, 0.01, max_atoms=3).to_dense().cpu().numpy(), expected, atol=1e-10)


def test_no_sample_no_code_and_no_atom_worth_taking():
    x, atoms = problem(3, 7, 4, seed=3)
    empty = encode(x[:0], atoms, 0.1)
    assert empty.shape == (0, 7)
    assert reconstruct(empty, atoms).shape == (0, 4)
    for none in (encode(x, atoms, 1000.0), encode(torch.zeros_like(x), atoms, 0.1)):
        assert none.shape == (3, 7)
        assert none.values().numel() == 0


def test_each_step_lowers_the_objective_by_its_square_whenever_a_sample_stops():
    x, atoms = problem(6, 64, 16, seed=4)
    x *= torch.tensor([0.0, 3.0, 0.05, 1.0, 0.3, 2.0], dtype=x.dtype, device=DEVICE)[:, None]
    codes = encode(x, atoms, 0.6)
    counts = codes.crow_indices().diff()
    assert counts[0] == 0
    assert counts[1] > counts[4] > 0
    expected = (x.square().sum() - codes.values().square().sum()) / len(x)
    torch.testing.assert_close(objective(x, atoms, codes, 0.6), expected)
    dense = codes.to_dense()
    dots = (x - dense @ atoms) @ atoms.T
    assert (dots[dense == 0] <= 0.3 + 1e-9).all()  # no atom that was not chosen would still be taken


def test_bfloat16_gram_gives_nearly_the_same_objective():
    x, atoms = problem(6, 100, 32, seed=5, dtype=torch.float32)
    whole, half = encode(x, atoms, 0.8), encode(x, atoms, 0.8, gram_dtype=torch.bfloat16)
    assert half.dtype == torch.float32
    assert not torch.equal(whole.to_dense(), half.to_dense())  # else the Gram matrix was not the one given
    one, two = objective(x, atoms, whole, 0.8), objective(x, atoms, half, 0.8)
    torch.testing.assert_close(two, one, rtol=1e-2, atol=0)


def test_chunks_of_samples_make_no_difference(monkeypatch):
    x, atoms = problem(5, 30, 8, seed=6)
    whole = encode(x, atoms, 0.4)
    monkeypatch.setattr(greedy_triton, "_CHUNK_BYTES", 2 * 30 * 8)
    parts = encode(x, atoms, 0.4)
    assert torch.equal(whole.crow_indices(), parts.crow_indices())
    torch.testing.assert_close(whole.to_dense(), parts.to_dense())


def test_leaves_its_input_alone_and_takes_it_strided():
    x, atoms = problem(6, 20, 8, seed=7)
    x_before, atoms_before = x.clone(), atoms.clone()
    whole = encode(x, atoms, 0.4).to_dense()
    every_second = encode(x[::2], atoms.T.contiguous().T, 0.4).to_dense()
    assert torch.equal(x, x_before)
    assert torch.equal(atoms, atoms_before)
    torch.testing.assert_close(every_second, whole[::2])


def test_too_many_atoms_are_refused_by_name(monkeypatch):
    x, atoms = problem(2, 20, 4, seed=8)
    monkeypatch.setattr(greedy_triton, "MAX_ATOMS", 19)
    with pytest.raises(ValueError, match=r"backend is 'triton', which needs .* there are 20 atoms: use 'auto'"):
        encode(x, atoms, 0.4)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sparsecode_pl.coding.greedy_triton import _REGISTERS, _greedy

types = ["*fp32", "*bf16", "*fp32", "*fp32", "*i32", "*i64", "i32", "constexpr", "constexpr"]
aligned = {(i,): [["tt.divisibility", 16]] for i in range(6)}
source = ASTSource(_greedy, dict(zip(_greedy.arg_names, types)), {(7,): 12288, (8,): 1024}, aligned)
options = {"num_warps": 8, "maxnreg": _REGISTERS}
kernel = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
print(kernel.asm["ptx"].count("ld.global.v4.b32"), kernel.asm["ptx"].count("ld.global.v2.b32"))
"""


def test_the_kernel_compiles_for_a_gpu_that_is_not_there(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, done.stderr[-2000:]
    # 12 parts of the correlations and 12 of a row of the Gram matrix, four neighbours a load.
    assert done.stdout.split() == ["12", "12"]


def test_where_the_kernel_does_not_run_a_warning_says_so(monkeypatch):
    def broken(*arguments):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(greedy_triton, "greedy_triton", broken)
    greedy_triton.runs_on.cache_clear()
    with pytest.warns(UserWarning, match=r"does not run on cpu, .* RuntimeError: Failed to find C compiler"):
        assert not greedy_triton.runs_on(torch.device("cpu"))
    greedy_triton.runs_on.cache_clear()


def test_the_probe_runs_without_autocast():
    x, atoms = problem(4, 30, 8, seed=9, dtype=torch.float32)
    expected = encode(x, atoms, 0.4)
    greedy_triton.runs_on.cache_clear()
    seen = []
    probe = greedy_triton.greedy_triton

    def watched(*arguments):
        seen.append((torch.is_autocast_enabled(DEVICE), torch.is_grad_enabled()))
        return probe(*arguments)

    with pytest.MonkeyPatch.context() as patch, torch.autocast(DEVICE, torch.bfloat16):
        patch.setattr(greedy_triton, "greedy_triton", watched)
        patch.setattr(greedy, "_solver", solver_of_a_gpu)
        found = greedy_encode(x, atoms, 0.4)
    greedy_triton.runs_on.cache_clear()
    assert seen == [(False, False)] * 2  # the probe and the call
    torch.testing.assert_close(found.to_dense(), expected.to_dense())


def solver_of_a_gpu(backend, device, num_atoms):
    """What "auto" chooses on a GPU, for the interpreter too."""
    assert greedy_triton.runs_on(device)
    return greedy_triton.greedy_triton

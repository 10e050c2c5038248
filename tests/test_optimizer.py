import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from sparsecode_pl.coding import greedy_encode
from sparsecode_pl.optimizer import MeanFieldNewton, moments_of


def problem(n, m, d, share, away=0.02, seed=0):
    """Samples that are sums of unit atoms, each active in a sample with a given probability, and atoms near by."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.rand(n, m, generator=generator, dtype=torch.float64) + 0.5
    codes *= torch.rand(n, m, generator=generator) < share
    atoms = normalize(torch.randn(m, d, generator=generator, dtype=torch.float64), dim=1)
    near = normalize(atoms + away * torch.randn(m, d, generator=generator, dtype=torch.float64), dim=1)
    return codes @ atoms, codes, near


def step(x, codes, atoms, optimizer_of):
    """The atoms after a step down the squared error with the codes fixed, not made unit again."""
    atoms = torch.nn.Parameter(atoms.clone())
    optimizer = optimizer_of([atoms])
    optimizer.observe(moments_of(codes.to_sparse_csr()))
    ((x - codes @ atoms).square().sum() / len(x)).backward()
    optimizer.step()
    return atoms.detach()


def error(x, codes, atoms):
    return float((x - codes @ normalize(atoms, dim=1)).square().sum() / len(x))


def test_moments_are_those_of_the_dense_codes():
    x, _, atoms = problem(200, 30, 20, 0.2)
    codes = greedy_encode(x, atoms, 0.5)
    dense = codes.to_dense()
    torch.testing.assert_close(moments_of(codes), torch.stack([dense.mean(0), dense.square().mean(0)]))


def test_a_step_solves_the_mean_field_equations():
    x, codes, atoms = problem(500, 12, 30, 0.3)
    moved = step(x, codes, atoms, lambda p: MeanFieldNewton(p, lr=0.7)) - atoms
    mean, square = codes.mean(0), codes.square().mean(0)
    hessian = torch.diag(square - mean**2) + torch.outer(mean, mean)
    gradient = codes.T @ (codes @ atoms - x) / len(x)
    gradient -= (gradient * atoms).sum(1, keepdim=True) * atoms
    torch.testing.assert_close(hessian @ moved, -0.7 * gradient, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_a_whole_step_nearly_reaches_the_minimum_though_atoms_are_active_together(share):
    x, codes, atoms = problem(40_000, 50, 64, share, away=0.001)
    before, after = error(x, codes, atoms), error(x, codes, step(x, codes, atoms, lambda p: MeanFieldNewton(p, lr=1)))
    assert after < 0.1 * before
    if share == 0.3:  # whereas the diagonal alone, which is gradient descent with a rate for each atom, overshoots
        gradient = codes.T @ (codes @ atoms - x) / len(x)
        assert error(x, codes, atoms - gradient / codes.square().mean(0)[:, None]) > before


def test_a_dead_atom_stays_where_the_others_move():
    x, codes, atoms = problem(300, 8, 16, 0.5)
    codes[:, 3] = 0
    moved = (step(x, codes, atoms, MeanFieldNewton) - atoms).norm(dim=1)
    assert moved[3] == 0
    assert moved[[0, 1, 2, 4, 5, 6, 7]].min() > 1e-4


def test_no_atom_is_ever_active_and_nothing_breaks():
    atoms = torch.nn.Parameter(torch.eye(3))
    optimizer = MeanFieldNewton([atoms])
    optimizer.observe(torch.zeros(2, 3))
    atoms.grad = torch.zeros(3, 3)
    optimizer.step()
    assert torch.equal(atoms.detach(), torch.eye(3))


def test_the_least_variance_bounds_the_step_of_an_atom_that_is_always_equally_active():
    codes = torch.ones(50, 1, dtype=torch.float64)  # its variance is 0, and the mean takes all of the curvature
    atoms = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    x = torch.tensor([[1.0, 0.1]], dtype=torch.float64).expand(50, 2)
    moved = step(x, codes, atoms, lambda p: MeanFieldNewton(p, lr=1.0)) - atoms
    # With v the least variance the step is 0.1 / v - 0.1 / v^2 / (1 + 1 / v) = 0.1 / (1 + v).
    torch.testing.assert_close(moved[0, 1], torch.tensor(0.1 / 1.05, dtype=torch.float64), rtol=1e-4, atol=0)


def test_curvature_is_a_running_mean_that_begins_with_the_first_batch():
    atoms = torch.nn.Parameter(torch.eye(2))
    optimizer = MeanFieldNewton([atoms], lr=0.4)
    seen = []
    for value in (1.0, 4.0, 2.0):
        optimizer.observe(torch.full((2, 2), value))
        atoms.grad = torch.zeros(2, 2)
        optimizer.step()
        state = optimizer.state[atoms]
        seen.append(float(state["moments"][1, 0] / state["weight"]))
    weights = 0.8 ** np.arange(3)  # the share of a batch is half of the rate
    np.testing.assert_allclose(seen[0], 1.0, rtol=1e-6)
    np.testing.assert_allclose(seen[1], np.average([4, 1], weights=weights[:2]), rtol=1e-6)
    np.testing.assert_allclose(seen[2], np.average([2, 4, 1], weights=weights), rtol=1e-6)


def test_accumulated_batches_count_as_one():
    x, codes, atoms = problem(400, 10, 12, 0.3)
    whole = step(x, codes, atoms, MeanFieldNewton)
    halves = torch.nn.Parameter(atoms.clone())
    optimizer = MeanFieldNewton([halves])
    for part, code in zip(x.split(200), codes.split(200), strict=True):
        optimizer.observe(moments_of(code.to_sparse_csr()))
        ((part - code @ halves).square().sum() / len(x)).backward()
    optimizer.step()
    torch.testing.assert_close(halves.detach(), whole)


def test_state_is_saved_and_loaded():
    x, codes, atoms = problem(400, 10, 12, 0.3)
    results = []
    for resumed in (False, True):
        parameter = torch.nn.Parameter(atoms.clone())
        optimizer = MeanFieldNewton([parameter])
        for number in range(3):
            if resumed and number == 2:
                state = optimizer.state_dict()
                optimizer = MeanFieldNewton([parameter])
                optimizer.load_state_dict(state)
            optimizer.observe(moments_of(codes[number * 100 :].to_sparse_csr()))
            optimizer.zero_grad()
            ((x - codes @ parameter).square().sum() / len(x)).backward()
            optimizer.step()
        results.append(parameter.detach())
    assert torch.equal(*results)


def test_a_copy_works_and_the_state_of_another_optimiser_is_refused():
    atoms = torch.nn.Parameter(torch.eye(2))
    copied = copy.deepcopy(MeanFieldNewton([atoms]))
    copied.observe(torch.ones(2, 2))
    atoms.grad = torch.zeros(2, 2)
    copied.step()
    scheduled = copied.state_dict()
    scheduled["param_groups"][0]["max_lr"] = 0.3  # as a scheduler may leave there
    MeanFieldNewton([atoms]).load_state_dict(scheduled)
    for other in (torch.optim.Adam([atoms], lr=0.02), torch.optim.SGD([atoms], lr=0.02)):
        with pytest.raises(ValueError, match="an optimiser other than MeanFieldNewton: give the one it was made with"):
            copied.load_state_dict(other.state_dict())


@pytest.mark.parametrize("lr", [0.0, -0.1, 1.5])
def test_a_rate_that_is_no_share_is_refused(lr):
    with pytest.raises(ValueError, match=rf"lr is {lr}: give a share of a Newton step in \(0, 1\]"):
        MeanFieldNewton([torch.nn.Parameter(torch.eye(2))], lr=lr)


def test_a_step_without_codes_is_refused():
    atoms = torch.nn.Parameter(torch.eye(2))
    atoms.grad = torch.ones(2, 2)
    with pytest.raises(RuntimeError, match="has observed no codes: call observe"):
        MeanFieldNewton([atoms]).step()

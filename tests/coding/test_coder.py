import numpy as np
import pytest
import torch
from lightning import Trainer
from sparsecode_synthetic import SparseLinear

from sparsecode_pl.coding import (
    Coder,
    GreedyCoder,
    LassoCoder,
    MatchingPursuitCoder,
    RefinedCoder,
    greedy_encode,
    lasso_encode,
    refined_encode,
)
from sparsecode_pl.module import SparseCodingModule

LAM = 0.08


def problem(n, m, d, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x, torch.nn.functional.normalize(torch.randn(m, d, generator=generator, dtype=torch.float64), dim=1)


def matching_pursuit(x, atoms, k):
    """Matching pursuit without re-selection, in plain Python."""
    codes = np.zeros((len(x), len(atoms)))
    for j, sample in enumerate(x):
        residual = sample.copy()
        for _ in range(k):
            dots = np.where(codes[j] > 0, -np.inf, atoms @ residual)
            best = dots.argmax()
            if dots[best] <= 0:
                break
            codes[j, best] = dots[best]
            residual = residual - dots[best] * atoms[best]
    return codes


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_matching_pursuit_takes_k_atoms_whatever_the_penalty(backend, k):
    x, atoms = problem(30, 40, 8, seed=0)
    coder = MatchingPursuitCoder(k, backend=backend)
    codes = coder(x, atoms, 0.1).to_dense().numpy()
    np.testing.assert_allclose(codes, matching_pursuit(x.numpy(), atoms.numpy(), k), atol=1e-10)
    if k == 4:
        assert ((codes > 0).sum(1) == 4).all()
    assert (coder(x, atoms, 100.0).to_dense().numpy() == codes).all()
    assert coder(torch.zeros(2, 8).double(), atoms, 0.1).values().numel() == 0


def test_lasso_coder_passes_its_settings_on():
    x, atoms = problem(20, 30, 8, seed=1)
    codes = LassoCoder(tol=1e-7, backend="torch")(x, atoms, 0.3)
    assert torch.equal(codes.to_dense(), lasso_encode(x, atoms, 0.3, tol=1e-7, backend="torch").codes.to_dense())
    with pytest.warns(UserWarning, match="raise max_iter from 1"):
        LassoCoder(tol=1e-9, max_iter=1)(x, atoms, 0.3)


def test_refined_coder_passes_its_settings_on():
    x, atoms = problem(20, 30, 8, seed=2)
    codes = RefinedCoder(rounds=2, sweeps=1, backend="torch")(x, atoms, 0.3)
    assert torch.equal(codes.to_dense(), refined_encode(x, atoms, 0.3, rounds=2, sweeps=1, backend="torch").to_dense())
    assert not torch.equal(codes.to_dense(), RefinedCoder()(x, atoms, 0.3).to_dense())


@pytest.mark.parametrize(
    "coder",
    [
        GreedyCoder(max_atoms=2, backend="torch"),
        LassoCoder(tol=1e-3, max_iter=500, backend="torch"),
        MatchingPursuitCoder(k=2, backend="torch"),
        RefinedCoder(rounds=2, sweeps=1, backend="torch"),
    ],
    ids=lambda coder: type(coder).__name__,
)
def test_a_coder_is_made_again_from_its_settings(coder):
    again = Coder.from_settings(coder.settings())
    assert type(again) is type(coder)
    assert vars(again) == vars(coder)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LassoCoder(tol=-1.0), "tol is -1.0: give a relative duality gap above 0"),
        (lambda: LassoCoder(max_iter=0), "max_iter is 0: give at least 1"),
        (lambda: RefinedCoder(rounds=0), "rounds is 0: give at least 1"),
        (lambda: RefinedCoder(sweeps=-1), "sweeps is -1: give at least 1"),
        (lambda: MatchingPursuitCoder(0), "k is 0: give at least 1"),
    ],
)
def test_bad_settings_are_named_with_their_cure(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("coder", [LassoCoder(tol=1e-3), MatchingPursuitCoder(k=2)], ids=lambda c: type(c).__name__)
def test_a_module_trains_with_it_and_loads_from_its_checkpoint(coder, tmp_path):
    data = SparseLinear(
        d_model=16, num_features=32, active=1.5, noise=0.01, num_samples=1000, batch_size=128, batches_per_round=12
    )
    module = SparseCodingModule(16, expansion=2, lam=LAM, coder=coder)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        accelerator="cpu", devices=1, max_epochs=1, num_sanity_val_steps=0, enable_model_summary=False, **quiet
    )
    trainer.fit(module, data)
    assert float(trainer.callback_metrics["heldout/explained_variance"]) > 0.5
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = SparseCodingModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert type(loaded.coder) is type(coder)
    assert vars(loaded.coder) == vars(coder)
    codes = loaded(data.rows)
    assert torch.equal(codes.to_dense(), module(data.rows).to_dense())
    if isinstance(coder, LassoCoder):
        greedy = greedy_encode(loaded.dictionary.standardise(data.rows), loaded.dictionary.atoms.detach(), LAM)
        assert not torch.equal(codes.to_dense(), greedy.to_dense())

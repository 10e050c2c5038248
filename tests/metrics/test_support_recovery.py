import math

import pytest
import torch

from sparsecode_pl.metrics.functional import support_recovery


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sparse", [False, True])
def test_sets_of_plain_python(seed, sparse):
    random = torch.Generator().manual_seed(seed)
    true_codes = torch.rand(30, 6, generator=random) * (torch.rand(30, 6, generator=random) < 0.4)
    codes = torch.rand(30, 9, generator=random) * (torch.rand(30, 9, generator=random) < 0.3)
    matched = torch.tensor([3, -1, 8, 0, -1, 5])
    true = {(row, f) for row, f in true_codes.nonzero().tolist()}
    atom_of = {f: atom for f, atom in enumerate(matched.tolist()) if atom >= 0}
    guessed = {(row, f) for row in range(30) for f, atom in atom_of.items() if codes[row, atom] > 0}
    if sparse:
        true_codes, codes = true_codes.to_sparse_csr(), codes.to_sparse_csr()
    score = support_recovery(true_codes, codes, matched)
    assert float(score.precision) == pytest.approx(len(true & guessed) / len(guessed))
    assert float(score.recall) == pytest.approx(len(true & guessed) / len(true))


def test_the_truth_recovers_itself_and_zeros_recover_nothing():
    codes = torch.tensor([[1.0, 0.0], [2.0, 3.0]])
    assert support_recovery(codes, codes, torch.arange(2)) == (1, 1)
    nothing = support_recovery(codes, torch.zeros(2, 2), torch.arange(2))
    assert math.isnan(nothing.precision)
    assert nothing.recall == 0


def test_what_does_not_fit_is_refused():
    codes = torch.ones(3, 2)
    with pytest.raises(ValueError, match="codes have 2 rows, and true_codes 3"):
        support_recovery(codes, torch.ones(2, 2), torch.arange(2))
    with pytest.raises(ValueError, match="values up to 2: give the number of one of the 2 atoms"):
        support_recovery(codes, codes, torch.tensor([0, 2]))

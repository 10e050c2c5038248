import pytest
import torch

from sparsecode_pl.coding.gram import gram_matrix


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m", [1, 31, 33, 700])
def test_it_is_the_product(m, dtype):
    atoms = torch.randn(m, 24, generator=torch.Generator().manual_seed(m), dtype=dtype)
    gram = gram_matrix(atoms.requires_grad_())
    assert not gram.requires_grad
    torch.testing.assert_close(gram, gram.T)
    torch.testing.assert_close(gram, (atoms @ atoms.T).detach())


def test_it_is_formed_where_it_fits_and_pays():
    atoms = torch.eye(64)
    assert gram_matrix(atoms, num_samples=2) is not None
    assert gram_matrix(atoms, num_samples=1) is None
    assert gram_matrix(atoms, memory=4 * 64**2) is not None
    assert gram_matrix(atoms, memory=4 * 64**2 - 1) is None
    with pytest.raises(ValueError, match="memory is 0"):
        gram_matrix(atoms, memory=0)

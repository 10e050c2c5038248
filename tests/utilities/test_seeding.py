import pytest
import torch

from sparsecode_pl.data import generator


def test_the_same_key_gives_the_same_draws():
    assert torch.equal(torch.rand(5, generator=generator(3, 1, 4)), torch.rand(5, generator=generator(3, 1, 4)))


@pytest.mark.parametrize(("one", "other"), [((0, 1), (1, 0)), ((0, 1), (0, 2)), ((0, 1, 2), (0, 12)), ((0,), (1,))])
def test_unequal_keys_give_unrelated_draws(one, other):
    x, y = (torch.randn(10_000, generator=generator(*key)) for key in (one, other))
    assert abs(float((x * y).mean())) < 0.05  # five standard errors

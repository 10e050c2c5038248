import pytest
import torch

from sparsecode_pl.data import SampledSource, SourceActivations, TensorSource
from sparsecode_pl.measurement.tokens import token_identity

TRAIN, HELDOUT = "token_explained_variance", "heldout_token_explained_variance"


def text(within: float, n=20_000, types=40, width=16, seed=0) -> SourceActivations:
    """Tokens, each equally frequent, whose means have variance 1, with a spread around them."""
    random = torch.Generator().manual_seed(seed)
    token = torch.randint(types, (n,), generator=random)
    centres = torch.randn(types, width, generator=random)
    centres = (centres - centres.mean(0)) / centres.std(0, correction=0)
    x = 10 + centres[token] + within * torch.randn(n, width, generator=random)
    return SourceActivations(TensorSource(x, columns={"token_id": token, "document": torch.arange(n) // 40}))


@pytest.mark.parametrize("within", [0.2, 1.0, 3.0])
def test_the_share_is_that_of_the_variance_between_tokens(within):
    scores = token_identity(text(within))
    expected = 1 / (1 + within**2)
    assert list(scores) == [TRAIN, HELDOUT]
    assert scores[TRAIN] == pytest.approx(expected, abs=0.015)
    assert scores[HELDOUT] == pytest.approx(expected, abs=0.04)


def test_tokens_that_tell_nothing_explain_nothing_even_if_each_is_rare():
    random = torch.Generator().manual_seed(0)
    columns = {"token_id": torch.arange(2000) // 2, "document": torch.arange(2000) % 100}
    data = SourceActivations(TensorSource(torch.randn(2000, 8, generator=random), columns=columns))
    for share in token_identity(data).values():
        assert share == pytest.approx(0, abs=0.01)


def test_training_rows_whose_token_is_theirs_alone_are_not_counted():
    data = text(0.0, n=400, types=200)
    tokens = data.source.columns["token_id"]
    assert (tokens[data.train_index].bincount() == 1).any()
    assert token_identity(data)[TRAIN] == pytest.approx(1, abs=1e-6)


def test_without_held_out_rows_there_is_one_share_and_without_types_none():
    data = text(1.0, n=1000)
    whole = SourceActivations(data.source, val_split=0)
    assert list(token_identity(whole)) == [TRAIN]
    assert token_identity(SourceActivations(TensorSource(torch.randn(50, 3)))) == {}
    own = TensorSource(torch.randn(50, 3), columns={"token_id": torch.arange(50)})
    assert TRAIN not in token_identity(SourceActivations(own))


class Endless(SampledSource):
    """Fresh rows, with a column for those that are scored."""

    columns = {"token_id": torch.arange(100) // 2}  # noqa: RUF012

    def __init__(self):
        super().__init__(100, stream=True, seed=0)

    def draw(self, num, random):
        return torch.randn(num, 3, generator=random)


def test_streams_have_none():
    assert token_identity(SourceActivations(Endless())) == {}


def test_nothing_is_told_by_the_token_once_its_mean_is_removed():
    data = text(1.0)
    left = SourceActivations(data.source, remove="token_mean")
    assert token_identity(left)[HELDOUT] == pytest.approx(0, abs=0.02)

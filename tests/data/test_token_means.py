import pickle

import pytest
import torch

from sparsecode_pl.data import TokenMeans


def drawn(within: float, types: int = 200, seed: int = 0, width: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of types whose means have variance 1, around (5, 5, ...); few types are frequent, many are rare."""
    random = torch.Generator().manual_seed(seed)
    sizes = (300 / torch.arange(1, types + 1)).ceil().long()
    token = torch.arange(types).repeat_interleave(sizes)
    token = token[torch.randperm(len(token), generator=random)]
    centres = torch.randn(types, width, generator=random)
    return 5 + centres[token] + within * torch.randn(len(token), width, generator=random), token


def by_hand(x, token, train, shrinkage, groups=None):
    """Each row without the shrunken mean of the training rows of its type, its group excepted."""
    groups = torch.arange(len(x)) if groups is None else groups
    x, mean = x.double(), x[train].double().mean(0)
    left = []
    for row in range(len(x)):
        others = train[(token[train] == token[row]) & (groups[train] != groups[row])]
        estimate = mean
        if len(others):
            estimate = (x[others].sum(0) + shrinkage * mean) / (len(others) + shrinkage)
        left.append(x[row] - estimate)
    return torch.stack(left)


def bursty(num_documents=300, length=60, types=2000, width=8, seed=0):
    """Text of which a quarter is a document's own words, about a topic that is stronger than the words.

    Returns:
        Rows, tokens and documents.
    """
    random = torch.Generator().manual_seed(seed)
    n = num_documents * length
    document = torch.arange(num_documents).repeat_interleave(length)
    frequency = 1 / torch.arange(1.0, types + 1)
    token = torch.multinomial(frequency, n, replacement=True, generator=random)
    favourite = torch.randint(types, (num_documents, 3), generator=random)
    own = favourite[document, torch.randint(3, (n,), generator=random)]
    token = torch.where(torch.rand(n, generator=random) < 0.25, own, token)
    word, topic = torch.randn(types, width, generator=random), 2 * torch.randn(num_documents, width, generator=random)
    return word[token] + topic[document] + torch.randn(n, width, generator=random), token, document


@pytest.mark.parametrize("within", [0.3, 1.0, 3.0])
def test_a_row_loses_the_shrunken_mean_of_the_other_training_rows_of_its_type(within):
    x, token = drawn(within)
    train = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))[: len(x) * 3 // 4]
    means = TokenMeans(x, token, train)
    expected = by_hand(x, token, train, means.shrinkage)
    index = torch.randperm(len(x))
    torch.testing.assert_close(means.residual(index).double(), expected[index], rtol=0, atol=2e-5)
    assert means.repeated.tolist() == [int((token[train] == token[row]).sum()) > 1 for row in range(len(x))]


@pytest.mark.parametrize("block", [7, 4_194_304])
def test_rows_of_the_same_group_are_left_out_of_the_mean(monkeypatch, block):
    monkeypatch.setattr("sparsecode_pl.data.token_means._BLOCK", block * 8)
    x, token, document = bursty(num_documents=5, length=240)
    groups = 1000 - 7 * document
    groups[5] = -3  # a group of one row
    train = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))[: len(x) * 3 // 4]
    means = TokenMeans(x, token, train, groups)
    sizes = torch.stack([token[train], document[train]]).unique(dim=1, return_counts=True)[1]
    assert sizes.min() == 1
    assert sizes.max() > 16  # some sums are kept and others are taken anew
    index = torch.randint(len(x), (500,))
    expected = by_hand(x, token, train, means.shrinkage, groups)[index]
    torch.testing.assert_close(means.residual(index).double(), expected, rtol=0, atol=5e-5)
    for row in range(len(x)):
        assert means.repeated[row] == (len(groups[train[token[train] == token[row]]].unique()) > 1)


def test_the_table_tells_as_much_of_training_documents_as_of_others():
    x, token, document = bursty(num_documents=400, width=32)
    is_training = document % 2 > 0
    train = is_training.nonzero().flatten()
    by_document, by_row = (TokenMeans(x, token, train, groups) for groups in (document, None))

    def told(means, kind):
        rows = (kind & means.repeated).nonzero().flatten()
        return 1 - float(means.residual(rows).square().sum() / (x[rows] - x[rows].mean(0)).square().sum())

    assert told(by_document, is_training) == pytest.approx(told(by_document, ~is_training), abs=0.02)
    assert told(by_row, is_training) > told(by_row, ~is_training) + 0.1
    assert told(by_document, ~is_training) > told(by_row, ~is_training)  # k is the one that suits other documents


def test_no_other_shrinkage_predicts_documents_that_are_left_out_better():
    x, token, document = bursty(num_documents=20)
    train = torch.arange(len(x))
    means = TokenMeans(x, token, train, document)
    rows = means.repeated
    errors = {
        factor: by_hand(x, token, train, means.shrinkage * factor, document)[rows].square().sum()
        for factor in (0.25, 1, 4)
    }
    assert min(errors, key=errors.get) == 1


def test_the_shrinkage_is_near_the_ratio_of_the_variances_within_and_between_types():
    for within in (0.1, 1.0, 2.0):
        x, token = drawn(within, types=2000, width=16)
        shrinkage = TokenMeans(x, token, torch.arange(len(x))).shrinkage
        assert within**2 / 2 < shrinkage < within**2 * 2


def test_no_other_shrinkage_predicts_rows_that_are_left_out_better():
    x, token = drawn(1.0)
    means = TokenMeans(x, token, torch.arange(len(x)))
    errors = {
        factor: by_hand(x, token, torch.arange(len(x)), means.shrinkage * factor).square().sum()
        for factor in (0.25, 1, 4)
    }
    assert min(errors, key=errors.get) == 1


def test_means_without_spread_are_not_shrunken_and_noise_is_shrunken_to_the_overall_mean():
    x, token = drawn(0.0)
    means = TokenMeans(x, token, torch.arange(len(x)))
    assert (means.shrinkage, means.share_within) == (0, pytest.approx(0, abs=1e-12))
    assert float(means.residual(means.repeated.nonzero().flatten()).abs().max()) < 1e-5
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    means = TokenMeans(noise, token, torch.arange(len(x)))
    assert means.shrinkage > 30
    assert float(means.residual(torch.arange(len(x))).square().mean() / noise.var()) < 1.01


def test_training_rows_keep_as_much_as_other_rows_that_as_many_training_rows_tell_of():
    x, token = drawn(1.0, types=3000, width=16)
    is_training = torch.rand(len(x), generator=torch.Generator().manual_seed(1)) < 0.5
    train = is_training.nonzero().flatten()
    means = TokenMeans(x, token, train)
    count = token[train].bincount(minlength=3000)[token]

    def kept(rows):
        return float(means.residual(rows.nonzero().flatten()).square().mean())

    assert kept(is_training & (count == 2)) == pytest.approx(kept(~is_training & (count == 1)), rel=0.05)
    assert kept(is_training & (count > 5)) == pytest.approx(kept(~is_training & (count > 5)), rel=0.05)


def test_the_moments_are_those_of_all_blocks_together(monkeypatch):
    x, token = drawn(1.0)
    x = x * 0.1 + 1000  # the spread is small beside the mean
    train = torch.arange(len(x))
    whole = TokenMeans(x, token, train)
    monkeypatch.setattr("sparsecode_pl.data.token_means._BLOCK", 7 * x.shape[1])
    parts = TokenMeans(x, token, train)
    assert parts.shrinkage == whole.shrinkage
    assert parts.share_within == pytest.approx(whole.share_within, rel=1e-3)
    torch.testing.assert_close(parts.residual(train), whole.residual(train), rtol=0, atol=5e-4)


def test_types_may_be_strings_and_numbers_of_any_kind():
    x, token = drawn(1.0, types=50)
    train = torch.arange(0, len(x), 2)
    expected = TokenMeans(x, token, train).residual(torch.arange(len(x)))
    for column in ([f"word {number}" for number in token.tolist()], (token * 1000 - 7).to(torch.int32)):
        assert torch.equal(TokenMeans(x, column, train).residual(torch.arange(len(x))), expected)


def test_nothing_is_known_where_each_row_is_of_its_own_type():
    x = torch.randn(20, 3)
    means = TokenMeans(x, torch.arange(20), torch.arange(15))
    assert not means.repeated.any()
    torch.testing.assert_close(means.residual(torch.arange(20)), x - x[:15].mean(0))
    assert means.share_within != means.share_within  # NaN


def test_a_table_can_be_pickled():
    x, token = drawn(1.0, types=20)
    means = TokenMeans(x, token, torch.arange(len(x)))
    again = pickle.loads(pickle.dumps(means))  # noqa: S301
    assert torch.equal(again.residual(torch.arange(9)), means.residual(torch.arange(9)))


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="column has 3 entries, but there are 4 rows"):
        TokenMeans(torch.randn(4, 2), torch.arange(3), torch.arange(4))
    with pytest.raises(ValueError, match="groups has 5 entries, but there are 4 rows"):
        TokenMeans(torch.randn(4, 2), torch.arange(4), torch.arange(4), torch.arange(5))
    with pytest.raises(ValueError, match="train_index is empty: give at least one"):
        TokenMeans(torch.randn(4, 2), torch.arange(4), torch.arange(0))

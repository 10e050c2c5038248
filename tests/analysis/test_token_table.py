import pytest
import torch

from sparsecode_pl import Dictionary
from sparsecode_pl.analysis.token_table import find_token, token_tables
from sparsecode_pl.data import SourceActivations, TensorActivations, TensorSource, generator

WORDS = ["winter", "summer", "spring", "water", "metal"]
SEASON, FLUID, METAL = torch.eye(3)
# "spring" is a season and a source of water.
ROWS = torch.stack([1.0 * SEASON, 0.9 * SEASON, 0.8 * SEASON + 0.7 * FLUID, 1.0 * FLUID, 1.0 * METAL])


class Pieces:
    """The vocabulary of a tokenizer that knows more words than there are rows of, and splits the others."""

    strings = (*(f" {word}" for word in WORDS), " autumn", " sea", "son", "[UNK]")

    def split(self, word):
        return {"season": [6, 7], "autumn": [5], "🦄": [8]}.get(word, [])


@pytest.fixture
def table():
    """A table of embeddings, whose dictionary is the true one."""
    return TensorActivations(ROWS, "toy", columns={"token": WORDS}, val_split=0), Dictionary(torch.eye(3), lam=0.2)


def test_a_token_has_its_features_with_the_tokens_that_share_them(table):
    data, dictionary = table
    (found,) = token_tables(dictionary, data, ["spring"], top=3, examples=3)
    assert (found.token, found.num_rows) == ("spring", 1)
    assert [(feature.atom, round(feature.value, 3)) for feature in found.features] == [(0, 0.7), (1, 0.6)]
    assert [token for token, _ in found.features[0].tokens] == ["winter", "summer", "spring"]
    assert [token for token, _ in found.features[1].tokens] == ["water", "spring"]
    names, cosines = zip(*found.neighbours, strict=True)
    assert set(names[:2]) == {"winter", "summer"}
    assert "spring" not in names
    assert cosines[0] == pytest.approx(0.8 / (0.8**2 + 0.7**2) ** 0.5)


def test_the_features_are_at_most_as_many_as_asked_for(table):
    data, dictionary = table
    found = token_tables(dictionary, data, ["spring", "metal"], top=1, examples=1)
    assert [len(one.features) for one in found] == [1, 1]
    assert found[1].features[0].tokens == (("metal", pytest.approx(0.9)),)
    metal = pytest.approx(0.9)
    assert found[1].plain()["features"] == [{"atom": 2, "value": metal, "tokens": [["metal", metal]]}]


def test_a_token_of_text_is_the_mean_over_its_rows():
    token = torch.arange(60) % 3
    x = ROWS[:3][token] + 0.05 * torch.randn(60, 3, generator=generator(0))
    data = SourceActivations(TensorSource(x, "text", columns={"token_id": token}), val_split=0)
    dictionary = Dictionary(torch.eye(3), lam=0.2)
    (found,) = token_tables(dictionary, data, ["summer"], vocabulary=Pieces())
    codes = dictionary.encode(x).to_dense().detach()
    assert (found.token, found.num_rows) == (" summer", 20)
    assert found.features[0].value == pytest.approx(float(codes[token == 1].mean(0).max()), rel=1e-5)
    for name, value in found.features[0].tokens:
        mean = codes[token == WORDS.index(name.strip())].mean(0)[found.features[0].atom]
        assert value == pytest.approx(float(mean), rel=1e-5)


def test_words_that_are_no_token_of_the_rows_are_refused(table):
    text = SourceActivations(TensorSource(ROWS, "text", columns={"token_id": torch.arange(5)}), val_split=0)
    assert find_token(text, " spring ", Pieces()) == 2
    with pytest.raises(ValueError, match="token is 'season', which the tokenizer splits into ' sea', 'son'"):
        find_token(text, "season", Pieces())
    with pytest.raises(ValueError, match=r"which the tokenizer reads as '\[UNK\]': give a word that it knows"):
        find_token(text, "🦄", Pieces())
    with pytest.raises(ValueError, match="token is 'autumn', and no row of text is of it"):
        find_token(text, "autumn", Pieces())
    with pytest.raises(ValueError, match="token is 'autumn', and no row of toy is of it"):
        find_token(table[0], "autumn")
    with pytest.raises(ValueError, match="has no column of tokens"):
        find_token(TensorActivations(ROWS, "plain", val_split=0), "autumn")


def test_wrong_arguments_are_refused(table):
    data, dictionary = table
    for name in ("top", "examples"):
        with pytest.raises(ValueError, match=f"{name} is 0: give at least 1"):
            token_tables(dictionary, data, ["metal"], **{name: 0})
    with pytest.raises(ValueError, match=r"width 4.*width 3"):
        token_tables(Dictionary(torch.eye(4), lam=1.0), data, ["metal"])

import torch

from sparsecode_pl.analysis.text import RowText
from sparsecode_pl.data import TensorSource

STRINGS = [" a", " b", " c", " d"]


class Words:
    strings = STRINGS

    def split(self, word):
        return [STRINGS.index(f" {each}") for each in word]


def _text(**columns):
    n = len(next(iter(columns.values())))
    return RowText(TensorSource(torch.rand(n, 2), columns=columns), Words())


def test_documents_are_sequences_and_gaps_in_the_positions_are_seen():
    text = _text(
        token_id=torch.tensor([0, 1, 2, 3, 0]),
        document=torch.tensor([0, 0, 0, 1, 1]),
        position=torch.tensor([1, 2, 5, 6, 7]),
        document_position=torch.tensor([1, 2, 5, 6, 7]),
    )
    assert text.sequence.tolist() == [0, 0, 0, 1, 1]
    assert text.after_gap.tolist() == [False, False, True, False, False]


def test_packed_documents_share_a_sequence():
    text = _text(
        token_id=torch.tensor([0, 1, 2, 3, 0, 1]),
        document=torch.tensor([0, 0, 1, 1, 1, 1]),
        position=torch.tensor([1, 2, 3, 4, 1, 2]),
        document_position=torch.tensor([0, 1, 0, 1, 2, 3]),
    )
    assert text.sequence.tolist() == [0, 0, 0, 0, 1, 1]
    assert not text.after_gap.any()


def test_rows_of_different_sequences_are_not_joined_because_their_positions_grow():
    text = _text(
        token_id=torch.arange(4),
        document=torch.tensor([0, 1, 1, 1]),
        position=torch.tensor([2, 5, 7, 9]),
        document_position=torch.tensor([2, 4, 40, 42]),
    )
    assert text.sequence.tolist() == [0, 1, 2, 2]
    assert text.after_gap.tolist() == [False, False, False, True]


def test_tokens_may_have_any_number():
    text = _text(token_id=torch.tensor([2**40, -1, 2**40]))
    assert text.types.tolist() == [-1, 2**40]
    assert text.kind.tolist() == [1, 0, 1]


def test_rows_of_no_text_stand_alone():
    text = RowText(TensorSource(torch.rand(3, 2)))
    assert not text.has_words
    assert text.sequence.tolist() == [0, 1, 2]
    assert text.token_id is None


def test_words_are_those_of_the_vocabulary_or_numbers():
    columns = {"token_id": torch.tensor([2, 9])}
    assert _text(**columns).words(slice(0, 2)) == [" c", "#9"]
    assert RowText(TensorSource(torch.rand(2, 2), columns=columns)).words(slice(0, 1)) == ["#2"]


def test_a_column_of_words_needs_no_vocabulary():
    text = RowText(TensorSource(torch.rand(3, 2), columns={"token": ["x", "y", "x"]}))
    assert text.words(slice(0, 3)) == ["x", "y", "x"]
    assert text.token_id.tolist() == [0, 1, 0]
    assert [text.token(number) for number in (0, 1, 2)] == ["x", "y", "#2"]
    assert (text.number("y"), text.number("z")) == (1, None)


def test_the_number_of_a_word_is_that_of_the_token_that_begins_one():
    class Pieces(Words):
        strings = ("ear", " ear", " other")

    source = TensorSource(torch.rand(3, 2), columns={"token_id": torch.tensor([0, 1, 2])})
    assert RowText(source, Pieces()).number("ear") == 1

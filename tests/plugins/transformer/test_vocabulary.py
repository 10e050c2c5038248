import pytest
from sparsecode_transformer.vocabulary import TokenizerVocabulary, load_vocabulary
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

UNKNOWN = "[UNK]"


def _vocabulary(model, before=None, after=None, **special):
    backend = Tokenizer(model)
    backend.pre_tokenizer, backend.decoder = before, after
    return TokenizerVocabulary(PreTrainedTokenizerFast(tokenizer_object=backend, **special))


def test_word_pieces_get_the_space_before_a_word():
    words = {UNKNOWN: 0, "sea": 1, "##son": 2, ",": 3}
    found = _vocabulary(
        models.WordPiece(words, unk_token=UNKNOWN), pre_tokenizers.BertPreTokenizer(), unk_token=UNKNOWN
    )
    assert found.strings == [UNKNOWN, " sea", "son", ","]
    assert found.split("season") == [1, 2]


def test_bytes_are_decoded():
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words = alphabet | {"Ġa": len(alphabet), "Ã©": len(alphabet) + 1}
    merges = [("Ġ", "a"), ("Ã", "©")]
    found = _vocabulary(
        models.BPE(words, merges), pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    )
    assert found.strings[words["Ġa"]] == " a"
    assert found.strings[words["Ã©"]] == "é"
    assert found.split("a") == [words["a"]]


def test_the_mark_before_words_is_a_space_and_bytes_are_characters():
    words = {UNKNOWN: 0, "▁the": 1, "re": 2, "<0x0A>": 3, "▁": 4}
    found = _vocabulary(models.BPE(words, [], unk_token=UNKNOWN), pre_tokenizers.Metaspace())
    assert found.strings == [UNKNOWN, " the", "re", "\n", " "]


def test_a_tokenizer_that_fails_is_a_warning(capsys, recwarn):
    def fail():
        raise OSError("no such file")

    with pytest.warns(UserWarning, match="tokens stay unnamed.*no such file"):
        assert load_vocabulary("toy", fail) is None

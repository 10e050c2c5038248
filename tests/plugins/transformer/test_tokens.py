import copy
import itertools
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sparsecode_transformer import tokens
from sparsecode_transformer.tokens import Sequences, tokenize
from tokenizers.processors import TemplateProcessing


def split(sequences: Sequences, values: np.ndarray) -> list[list[int]]:
    return [part.tolist() for part in np.split(values, sequences.starts[1:-1])]


def special_ids(tokenizer) -> set[int]:
    names = ("bos", "eos", "cls", "sep", "pad", "mask")
    return {getattr(tokenizer, f"{name}_token_id") for name in names} - {None}


def check(sequences: Sequences, context_length: int) -> None:
    """What holds of any."""
    total = len(sequences.tokens)
    for values in (sequences.tokens, sequences.document, sequences.document_position):
        assert values.dtype == np.int32
        assert values.shape == (total,)
    assert sequences.keep.dtype == bool
    assert sequences.starts.dtype == np.int64
    assert sequences.starts[0] == 0
    assert sequences.starts[-1] == total
    lengths = np.diff(sequences.starts)
    assert len(sequences) == len(lengths)
    assert (lengths > 0).all()
    assert (lengths <= context_length).all()
    assert sequences.kept().tolist() == [sum(part) for part in split(sequences, sequences.keep)]
    assert (sequences.kept() > 0).all()


def test_a_document_is_a_sequence_as_the_tokenizer_makes_it(tokenizer, documents):
    sequences = tokenize(documents, tokenizer, context_length=1000)
    check(sequences, 1000)
    ids = [tokenizer(document, truncation=False).input_ids for document in documents]
    assert split(sequences, sequences.tokens) == ids
    assert split(sequences, sequences.document) == [[number] * len(part) for number, part in enumerate(ids)]
    assert split(sequences, sequences.document_position) == [list(range(len(part))) for part in ids]
    plain = [tokenizer(document, truncation=False, add_special_tokens=False).input_ids for document in documents]
    assert sequences.tokens[sequences.keep].tolist() == list(itertools.chain(*plain))


def test_known_sequences(llama, wordpiece):
    sequences = tokenize(["hello world"], wordpiece, context_length=8)
    assert wordpiece.convert_ids_to_tokens(sequences.tokens.tolist()) == ["[CLS]", "hello", "world", "[SEP]"]
    assert sequences.keep.tolist() == [False, True, True, False]
    sequences = tokenize(["Once upon"], llama, context_length=8)
    assert llama.convert_ids_to_tokens(sequences.tokens.tolist()) == ["<s>", "▁Once", "▁upon"]
    assert sequences.keep.tolist() == [False, True, True]


@pytest.mark.parametrize("context_length", [4, 9])
def test_documents_are_cut_from_their_end_and_keep_what_closes_them(tokenizer, documents, context_length):
    one_sided = copy.deepcopy(tokenizer)
    one_sided.truncation_side = "left"
    for cutter in (tokenizer, one_sided):
        sequences = tokenize(documents, cutter, context_length=context_length)
        check(sequences, context_length)
        for part, keep, document in zip(
            split(sequences, sequences.tokens), split(sequences, sequences.keep), documents, strict=True
        ):
            whole = tokenizer(document, truncation=False).input_ids
            assert len(part) == min(len(whole), context_length)
            closing = [number for number in whole[-1:] if number in special_ids(tokenizer)]
            assert part == whole[: len(part) - len(closing)] + closing
            assert keep == [number not in special_ids(tokenizer) for number in part]


def test_truncation_leaves_room_for_sep(wordpiece):
    sequences = tokenize(["one two three four five"], wordpiece, context_length=4)
    assert wordpiece.convert_ids_to_tokens(sequences.tokens.tolist()) == ["[CLS]", "one", "two", "[SEP]"]


@pytest.mark.parametrize("packing", [False, True])
def test_a_kept_token_is_that_of_its_document_at_its_position(tokenizer, documents, packing):
    sequences = tokenize(documents, tokenizer, context_length=7, packing=packing)
    check(sequences, 7)
    ids = [tokenizer(text, truncation=False, add_special_tokens=not packing).input_ids for text in documents]
    keep = sequences.keep
    places = zip(sequences.tokens[keep], sequences.document[keep], sequences.document_position[keep], strict=True)
    assert all(token == ids[document][position] for token, document, position in places)


@pytest.mark.parametrize("context_length", [2, 5, 33, 1000])
def test_packing_takes_every_token_once_and_fills_every_sequence(tokenizer, documents, context_length):
    sequences = tokenize(documents, tokenizer, context_length=context_length, packing=True)
    check(sequences, context_length)
    assert (np.diff(sequences.starts)[:-1] == context_length).all()
    ids = [tokenizer(document, truncation=False, add_special_tokens=False).input_ids for document in documents]
    places = [(number, position) for number, part in enumerate(ids) for position in range(len(part))]
    inside = sequences.document_position >= 0
    assert sequences.tokens[inside].tolist() == list(itertools.chain(*ids))
    found = zip(sequences.document[inside].tolist(), sequences.document_position[inside].tolist(), strict=True)
    assert list(found) == places
    assert np.array_equal(inside, sequences.keep)


def test_known_packs(llama, wordpiece, gpt2):
    bos, eos, cls, sep = llama.bos_token_id, llama.eos_token_id, wordpiece.cls_token_id, wordpiece.sep_token_id
    for tokenizer, first, between in [(llama, bos, eos), (wordpiece, cls, sep), (gpt2, None, gpt2.eos_token_id)]:
        one, two = (tokenizer(text, add_special_tokens=False).input_ids for text in ("a time", "and again"))
        stream = [*one, between, *two]
        room = 2 if first is None else 1
        head = [] if first is None else [first]
        sequences = tokenize(["a time", "", "and again"], tokenizer, context_length=2, packing=True)
        packs = [head + stream[start : start + room] for start in range(0, len(stream), room)]
        assert split(sequences, sequences.tokens) == [pack for pack in packs if pack != [*head, between]]
        whole = tokenize(["a time", "", "and again"], tokenizer, context_length=99, packing=True, keep_special=True)
        assert whole.tokens.tolist() == head + stream
        assert whole.document.tolist() == [0] * (len(head) + len(one) + 1) + [2] * len(two)
        assert whole.document_position.tolist() == [-1] * len(head) + [*range(len(one)), -1, *range(len(two))]
        assert whole.keep.all()


def test_eos_goes_before_sep(gpt2):
    own = copy.deepcopy(gpt2)
    own.sep_token = "."  # noqa: S105
    sequences = tokenize(["and", "and"], own, context_length=50, packing=True)
    assert sequences.tokens[sequences.document_position < 0].tolist() == [own.eos_token_id]


def test_a_tokenizer_without_any_closing_token_packs_without(gpt2, documents):
    bare = copy.deepcopy(gpt2)
    bare.eos_token = None
    sequences = tokenize(documents, bare, context_length=50, packing=True)
    ids = [bare(document, add_special_tokens=False).input_ids for document in documents]
    assert sequences.tokens.tolist() == list(itertools.chain(*ids))


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize(
    ("name", "written", "expected"),
    [
        ("llama", "<s> </s>", ["<s>", "</s>"]),
        ("wordpiece", "[SEP] [MASK] [PAD] [CLS]", ["[SEP]", "[MASK]", "[PAD]", "[CLS]"]),
        ("gpt2", "<|endoftext|>", ["<|endoftext|>"]),
        ("slow", "</s><pad>", ["</s>", "<pad>"]),
    ],
)
def test_special_tokens_that_the_text_spells_out_do_not_count(request, name, written, expected, packing):
    tokenizer = request.getfixturevalue(name)
    text = f"so {written} it was"
    sequences = tokenize([text], tokenizer, context_length=99, packing=packing)
    numbers = tokenizer.convert_tokens_to_ids(expected)
    assert set(numbers) <= set(sequences.tokens.tolist())
    assert not np.isin(sequences.tokens[sequences.keep], numbers).any()
    others = sequences.tokens[~np.isin(sequences.tokens, list(special_ids(tokenizer)))]
    assert sequences.tokens[sequences.keep].tolist() == others.tolist()


def test_a_nameless_token_that_the_tokenizer_adds_does_not_count(gpt2):
    own = copy.deepcopy(gpt2)
    own.add_tokens(["<lang>"], special_tokens=True)
    number = own.convert_tokens_to_ids("<lang>")
    own.backend_tokenizer.post_processor = TemplateProcessing(single="<lang> $A", special_tokens=[("<lang>", number)])
    sequences = tokenize(["and again"], own, context_length=9)
    assert sequences.tokens[0] == number
    assert sequences.keep.tolist() == [False] + [True] * (len(sequences.tokens) - 1)


def test_unknown_words_count(wordpiece):
    sequences = tokenize(["a ☃ b"], wordpiece, context_length=9)
    kept = wordpiece.convert_ids_to_tokens(sequences.tokens[sequences.keep].tolist())
    assert kept == ["a", "[UNK]", "b"]


@pytest.mark.parametrize("packing", [False, True])
def test_special_tokens_count_where_wanted(tokenizer, documents, packing):
    arguments = {"context_length": 6, "packing": packing}
    sequences = tokenize(documents, tokenizer, keep_special=True, **arguments)
    assert sequences.keep.all()
    without = tokenize(documents, tokenizer, **arguments)
    assert without.tokens[without.keep].tolist() == [n for n in sequences.tokens if n not in special_ids(tokenizer)]


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("skip_first", [1, 3])
def test_the_first_positions_do_not_count(tokenizer, documents, packing, skip_first):
    everything = tokenize(documents, tokenizer, context_length=8, packing=packing)
    sequences = tokenize(documents, tokenizer, context_length=8, packing=packing, skip_first=skip_first)
    check(sequences, 8)
    expected = [
        (part, [position >= skip_first and kept for position, kept in enumerate(keep)])
        for part, keep in zip(split(everything, everything.tokens), split(everything, everything.keep), strict=True)
    ]
    expected = [(part, keep) for part, keep in expected if any(keep)]
    assert split(sequences, sequences.tokens) == [part for part, _ in expected]
    assert split(sequences, sequences.keep) == [keep for _, keep in expected]


def test_what_keeps_nothing_is_left_out_and_documents_keep_their_numbers(wordpiece):
    sequences = tokenize(["\u200b", "one", "[MASK]", "two"], wordpiece, context_length=8)
    assert sequences.document.tolist() == [1, 1, 1, 3, 3, 3]


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("num_activations", [1, 20, 2500, 10**9])
def test_as_many_as_asked_for(llama, real_texts, packing, num_activations):
    everything = tokenize(real_texts, llama, context_length=64, packing=packing)
    sequences = tokenize(real_texts, llama, context_length=64, packing=packing, num_activations=num_activations)
    available = everything.kept().sum()
    assert sequences.kept().sum() >= min(num_activations, available)
    assert sequences.kept()[:-1].sum() < num_activations
    for name in ("tokens", "document", "document_position", "keep"):
        assert np.array_equal(getattr(sequences, name), getattr(everything, name)[: len(sequences.tokens)])
    assert np.array_equal(sequences.starts, everything.starts[: len(sequences) + 1])


@pytest.mark.parametrize("packing", [False, True])
def test_documents_are_read_no_further_than_needed(gpt2, packing):
    calls = []
    endless = itertools.count()
    sequences = tokenize(
        ("and again" for _ in endless),
        gpt2,
        context_length=5,
        packing=packing,
        num_activations=9000,
        progress=lambda *totals: calls.append(totals),
    )
    assert sequences.kept().sum() >= 9000
    read = next(endless)
    assert len(calls) > 1
    assert calls == sorted(calls)
    assert calls[-2][0] < 9000 <= calls[-1][0]
    assert calls[-1][1] == read


def test_long_documents_are_not_gathered_by_the_thousand(gpt2, monkeypatch):
    monkeypatch.setattr(tokens, "_CHARACTERS", 1000)
    read = itertools.count()
    tokenize(("again " * 50 for _ in read), gpt2, context_length=9, num_activations=1)
    assert next(read) == 4


def test_progress_ends_at_the_totals(tokenizer, documents):
    calls = []
    many = documents * 500
    sequences = tokenize(many, tokenizer, context_length=5, packing=True, progress=lambda *totals: calls.append(totals))
    assert calls[-1] == (sequences.kept().sum(), len(many))


@settings(max_examples=20, deadline=None)
@given(
    texts=st.lists(st.text(max_size=30), min_size=1, max_size=8),
    context_length=st.integers(2, 12),
    packing=st.booleans(),
    data=st.data(),
)
def test_any_text_keeps_its_tokens_in_order(gpt2, texts, context_length, packing, data):
    skip_first = data.draw(st.integers(0, context_length - 1))
    texts = [*texts, "and again and again, a little car"]
    arguments = {"context_length": context_length, "packing": packing, "keep_special": True}
    everything = tokenize(texts, gpt2, **arguments)
    check(everything, context_length)
    ids = [gpt2(text, verbose=False).input_ids for text in texts]
    inside = everything.document_position >= 0
    expected = [part if packing else part[:context_length] for part in ids]
    assert everything.tokens[inside].tolist() == list(itertools.chain(*expected))
    try:
        sequences = tokenize(texts, gpt2, skip_first=skip_first, **arguments)
    except ValueError:
        assert (np.diff(everything.starts) <= skip_first).all()
        return
    check(sequences, context_length)
    assert sequences.kept().sum() == np.maximum(np.diff(everything.starts) - skip_first, 0).sum()


@pytest.mark.parametrize("packing", [False, True])
def test_the_callers_tokenizer_is_as_before(wordpiece, documents, packing):
    own = copy.deepcopy(wordpiece)  # as it was loaded: any call of a fast tokenizer changes these
    own.backend_tokenizer.enable_truncation(128)
    own.backend_tokenizer.enable_padding(length=128, pad_id=0, pad_token="[PAD]")  # noqa: S106
    before = own.backend_tokenizer.to_str()
    own.truncation_side = "left"
    sequences = tokenize([" ".join(documents * 2)] * 2, own, context_length=300, packing=packing)
    assert own.backend_tokenizer.to_str() == before
    assert own.truncation_side == "left"
    assert 100 < np.diff(sequences.starts)[0] != 128
    assert own.pad_token_id not in sequences.tokens


@pytest.mark.parametrize("packing", [False, True])
def test_long_texts_and_absent_tokens_cause_no_noise(tokenizer, packing, recwarn, caplog, capfd):
    own = copy.deepcopy(tokenizer)
    own.model_max_length = 16
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        tokenize(["and again " * 100], own, context_length=64, packing=packing)
    finally:
        logger.removeHandler(caplog.handler)
    assert not recwarn.list
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("packing", [False, True])
def test_context_length_too_small(wordpiece, packing):
    with pytest.raises(ValueError, match="context_length is 1: give at least 2"):
        tokenize(["a"], wordpiece, context_length=1, packing=packing)
    if packing:
        assert tokenize(["a"], wordpiece, context_length=2, packing=True).kept().sum() == 1
    else:
        with pytest.raises(ValueError, match="context_length is 2, and the tokenizer adds 2 special tokens: give at l"):
            tokenize(["a"], wordpiece, context_length=2)


@pytest.mark.parametrize("skip_first", [-1, 8, 9])
def test_skip_first_out_of_range(gpt2, skip_first):
    with pytest.raises(ValueError, match=f"skip_first is {skip_first}: give at least 0 and less than context_length"):
        tokenize(["a"], gpt2, context_length=8, skip_first=skip_first)


@pytest.mark.parametrize("packing", [False, True])
def test_no_documents(gpt2, packing):
    with pytest.raises(ValueError, match="documents is empty: give at least one text"):
        tokenize(iter([]), gpt2, context_length=8, packing=packing)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize(("texts", "total"), [([""], 0), (["a", "<|endoftext|>"], None), (["and", "", "a"], None)])
def test_no_tokens_left(gpt2, texts, total, packing):
    total = "[1-9]" if total is None else total
    message = rf"documents \({len(texts)}\) give {total}.* tokens, all of them special or in the first 6 positions: giv"
    with pytest.raises(ValueError, match=message):
        tokenize(texts, gpt2, context_length=8, packing=packing, skip_first=6)

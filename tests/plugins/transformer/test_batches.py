import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sparsecode_transformer.batches import chunks, length_batches
from sparsecode_transformer.tokens import Sequences, tokenize


def made_of(lengths: list[int], seed: int = 0) -> Sequences:
    """Sequences of these lengths with other numbers in every place."""
    rng = np.random.default_rng(seed)
    total = sum(lengths)
    tokens, document, position = (rng.permutation(1000 + total)[:total].astype(np.int32) + 1 for _ in range(3))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(tokens, starts, document, position, rng.random(total) < 0.5)


LENGTHS = st.lists(st.integers(1, 20), max_size=30)


@given(kept=st.lists(st.integers(0, 9), max_size=40), rows=st.integers(1, 30))
def test_chunks_are_the_shortest_runs_that_keep_enough(kept, rows):
    runs = chunks(np.array(kept, np.int64), rows)
    assert [number for first, last in runs for number in range(first, last)] == list(range(len(kept)))
    for first, last in runs[:-1]:
        assert sum(kept[first:last]) >= rows > sum(kept[first : last - 1])
    if runs:
        first, last = runs[-1]
        assert last > first
        assert sum(kept[first : last - 1]) < rows


def test_rows_out_of_range():
    with pytest.raises(ValueError, match="rows is 0: give at least 1"):
        chunks(np.array([1]), 0)


@given(lengths=LENGTHS, batch_tokens=st.integers(1, 60), pad_id=st.sampled_from([0, 7]), data=st.data())
def test_every_wanted_sequence_is_in_one_batch_as_it_is(lengths, batch_tokens, pad_id, data):
    sequences = made_of(lengths)
    which = data.draw(st.permutations(range(len(lengths))).map(lambda order: order[: len(order) * 2 // 3]))
    batches = list(length_batches(sequences, np.array(which, np.int64), batch_tokens, pad_id))
    found, kept = [], []
    for batch in batches:
        rows, width = batch.input_ids.shape
        assert batch.input_ids.dtype == batch.attention_mask.dtype == batch.kept.dtype == torch.int64
        assert rows * width <= batch_tokens or rows == 1
        real = batch.attention_mask.bool()
        assert real[0].all()
        assert torch.equal(real, torch.arange(width) < real.sum(1, keepdim=True))
        assert (batch.input_ids[~real] == pad_id).all()
        found += [tuple(row[mask].tolist()) for row, mask in zip(batch.input_ids, real, strict=True)]
        assert torch.equal(batch.kept, batch.kept.sort().values)
        assert real.flatten()[batch.kept].all()
        columns = batch.columns
        assert list(columns) == ["token_id", "position", "document", "document_position"]
        assert {column.dtype for column in columns.values()} == {torch.int32}
        assert torch.equal(columns["token_id"].long(), batch.input_ids.flatten()[batch.kept])
        assert torch.equal(columns["position"].long(), batch.kept % width)
        kept += zip(*(columns[name].tolist() for name in ("token_id", "document", "document_position")), strict=True)
    parts = np.split(sequences.tokens, sequences.starts[1:-1])
    assert sorted(found) == sorted(tuple(parts[number].tolist()) for number in which)
    assert [len(row) for row in found] == sorted((lengths[number] for number in which), reverse=True)
    wanted = np.repeat(np.isin(np.arange(len(lengths)), which), lengths) & sequences.keep
    columns = (sequences.tokens, sequences.document, sequences.document_position)
    assert sorted(kept) == sorted(zip(*(column[wanted].tolist() for column in columns), strict=True))


def test_known_batches():
    sequences = made_of([2, 3, 1, 3])
    batches = list(length_batches(sequences, np.arange(4), 6, pad_id=0))
    t = sequences.tokens.tolist()
    assert [batch.input_ids.tolist() for batch in batches] == [[t[2:5], t[6:9]], [t[0:2], [t[5], 0]]]
    assert batches[1].attention_mask.tolist() == [[1, 1], [1, 0]]


@given(lengths=LENGTHS, batch_tokens=st.integers(1, 60))
def test_a_batch_takes_as_many_rows_as_fit(lengths, batch_tokens):
    batches = list(length_batches(made_of(lengths), np.arange(len(lengths)), batch_tokens))
    for batch in batches[:-1]:
        rows, width = batch.input_ids.shape
        assert (rows + 1) * width > batch_tokens


def test_batches_are_the_same_each_time():
    sequences = made_of([5, 3, 5, 5, 2, 3])
    which = np.array([5, 2, 0, 3, 1])
    one, two = (list(length_batches(sequences, which, 11)) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a.input_ids, b.input_ids)
    first = [sequences.tokens[sequences.starts[number]] for number in (2, 0, 3)]  # like lengths in the order given
    assert torch.cat([batch.input_ids[:, 0] for batch in one])[:3].tolist() == first


@pytest.mark.parametrize("packing", [False, True])
def test_real_text_goes_through(tokenizer, documents, packing):
    sequences = tokenize(documents, tokenizer, context_length=20, packing=packing)
    pad_id = tokenizer.pad_token_id or 0
    seen = 0
    for batch in length_batches(sequences, np.arange(len(sequences)), 64, pad_id):
        tokens = batch.input_ids.flatten()[batch.kept].tolist()
        for token, document, position in zip(
            tokens, batch.columns["document"].tolist(), batch.columns["document_position"].tolist(), strict=True
        ):
            ids = tokenizer(documents[document], truncation=False, add_special_tokens=not packing).input_ids
            assert ids[position] == token
        seen += len(tokens)
    assert seen == sequences.kept().sum() > 0


def test_little_is_padded(llama, real_texts):
    sequences = tokenize(real_texts, llama, context_length=512)
    batches = list(length_batches(sequences, np.arange(len(sequences)), 4096, 2))
    real = sum(int(batch.attention_mask.sum()) for batch in batches)
    assert real == len(sequences.tokens)
    assert real > 0.93 * sum(batch.input_ids.numel() for batch in batches)

"""What the activations are: those of the model, at the tokens that count."""

import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from sparsecode_transformer import TransformerActivations
from sparsecode_transformer.locate import locate_model
from sparsecode_transformer.model import load_model
from transformers import AutoTokenizer

from sparsecode_pl.data import ActivationStore, Place, generator
from sparsecode_pl.module import SparseCodingModule

COLUMNS = ["token_id", "position", "document", "document_position"]


def activations(model, text, **kwargs) -> TransformerActivations:
    return TransformerActivations(
        model, text, **{"num_activations": None, "device": "cpu", "batch_tokens": 128} | kwargs
    )


def lines(path) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


def one_by_one(model: str, documents: list[str], context_length: int) -> tuple[list[list[int]], list[torch.Tensor]]:
    """The tokens of each document, and its hidden states (layers, tokens, width), without batches or padding."""
    whole = load_model(locate_model(model), device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(locate_model(model))
    ids = [tokenizer(text, truncation=True, max_length=context_length)["input_ids"] for text in documents]
    with torch.no_grad():
        passes = [whole(input_ids=torch.tensor([each]), output_hidden_states=True) for each in ids]
    return ids, [torch.stack(done.hidden_states)[:, 0] for done in passes]


def at(states: list[torch.Tensor], columns, layer: int) -> torch.Tensor:
    """The hidden states at the places that columns name."""
    places = zip(columns["document"].tolist(), columns["document_position"].tolist(), strict=True)
    return torch.stack([states[document][layer, position] for document, position in places])


@pytest.fixture(scope="session")
def stories_text(stories, real_texts, tmp_path_factory) -> str:
    """Twelve stories, each a line of JSON, the first of each length."""
    path = tmp_path_factory.mktemp("stories") / "stories.jsonl"
    texts = [text[: 60 + 90 * number] for number, text in enumerate(real_texts[:12])]
    path.write_text("".join(json.dumps({"story": text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


def stories_lines(path) -> list[str]:
    return [json.loads(line)["story"] for line in lines(path)]


# --- real models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stories", "minilm"])
@pytest.mark.parametrize("stored", [False, True], ids=["memory", "store"])
def test_rows_are_the_hidden_states_of_documents_one_by_one(request, stories_text, tmp_path, name, stored):
    model = request.getfixturevalue(name)
    store = str(tmp_path / "store") if stored else None
    settings = {"text_column": "story", "context_length": 100, "batch_tokens": 300, "shard_rows": 200}
    data = activations(model, stories_text, store=store, **settings)
    data.prepare_data()
    ids, states = one_by_one(model, stories_lines(stories_text), 100)
    parts = data.sources()
    assert [part.place.layer for part in parts] == [str(layer) for layer in range(len(states[0]))]
    for layer, part in enumerate(parts):
        expected = at(states, part.columns, layer)
        assert len(part.rows) == len(expected) > 500
        torch.testing.assert_close(part.rows[:], expected, atol=1e-4, rtol=1e-3)
    kept = {(int(d), int(p)) for d, p in zip(*(parts[0].columns[c] for c in COLUMNS[2:]), strict=True)}
    special = {"stories": {1}, "minilm": {101, 102}}[name]
    assert kept == {(d, p) for d, each in enumerate(ids) for p, token in enumerate(each) if token not in special}
    assert len(kept) == len(parts[0].rows)
    assert len({part.rows.shape for part in parts}) == 1


@pytest.mark.parametrize("name", ["stories", "minilm"])
def test_the_token_stored_with_an_activation_is_the_one_that_made_it(request, stories_text, name):
    model = request.getfixturevalue(name)
    columns = activations(model, stories_text, layers=0, text_column="story").source.columns
    tokenizer = AutoTokenizer.from_pretrained(locate_model(model))
    ids = [tokenizer(text, truncation=True, max_length=256)["input_ids"] for text in stories_lines(stories_text)]
    assert list(columns) == COLUMNS
    for token, position, document, document_position in zip(*(columns[c].tolist() for c in COLUMNS), strict=True):
        assert position == document_position  # a document is a sequence here
        assert ids[document][document_position] == token


@pytest.mark.parametrize("packing", [False, True])
def test_hidden_state_0_of_a_model_without_position_embedding_is_the_embedding_of_the_token(
    stories, stories_text, packing
):
    data = activations(stories, stories_text, layers=0, text_column="story", packing=packing)
    table = load_model(stories, device="cpu").get_input_embeddings().weight
    assert torch.equal(data.rows, table[data.source.columns["token_id"].long()])


def test_packing_joins_documents_and_says_where_each_token_stands_in_its_own(stories, stories_text):
    data = activations(stories, stories_text, layers=[0, 2], text_column="story", packing=True, context_length=64)
    columns = data.sources()[0].columns
    tokenizer = AutoTokenizer.from_pretrained(stories)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in stories_lines(stories_text)]
    stored = {(int(d), int(p)): int(t) for t, _, d, p in zip(*(columns[c] for c in COLUMNS), strict=True)}
    assert stored == {(d, p): token for d, each in enumerate(ids) for p, token in enumerate(each) if token > 2}
    assert max(columns["position"]) == 63
    assert (columns["document_position"] > 63).any()


@pytest.mark.parametrize("name", ["stories", "minilm"])
def test_special_tokens_count_only_on_demand(request, stories_text, name):
    model = request.getfixturevalue(name)
    special = torch.tensor({"stories": [1], "minilm": [101, 102]}[name], dtype=torch.int32)
    _, states = one_by_one(model, stories_lines(stories_text), 50)
    settings = {"layers": 2, "text_column": "story", "context_length": 50}
    without, with_them = (activations(model, stories_text, keep_special=keep, **settings) for keep in (False, True))
    assert not torch.isin(without.source.columns["token_id"], special).any()
    assert torch.isin(with_them.source.columns["token_id"], special).sum() == 12 * len(special)
    assert len(with_them.rows) - len(without.rows) == 12 * len(special)
    torch.testing.assert_close(with_them.rows, at(states, with_them.source.columns, 2), atol=1e-4, rtol=1e-3)


# --- which tokens -----------------------------------------------------------------------------------------------------


def test_the_first_positions_are_skipped_but_seen_by_those_that_follow(small, text):
    everything, later = activations(small, text, layers=2), activations(small, text, layers=2, skip_first=3)
    counts = everything.source.columns["position"] >= 3
    assert torch.equal(later.rows, everything.rows[counts])
    assert torch.equal(later.source.columns["document"], everything.source.columns["document"][counts])
    assert int(later.source.columns["position"].min()) == 3


def test_no_more_documents_are_read_than_said(small, text):
    data = activations(small, text, max_documents=7)
    assert set(data.sources()[0].columns["document"].tolist()) == set(range(7))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_store_may_keep_half_the_bits(small, text, tmp_path, dtype):
    data = activations(small, text, store=str(tmp_path / "store"), store_dtype=dtype)
    data.prepare_data()
    for part, whole in zip(data.sources(), activations(small, text).sources(), strict=True):
        assert part.rows[:].dtype == torch.float32
        assert torch.equal(part.rows[:], whole.rows.to(getattr(torch, dtype)).float())
        assert not torch.equal(part.rows[:], whole.rows)


def test_a_model_may_compute_with_half_the_bits(small, text):
    half, whole = (activations(small, text, layers=1, dtype=dtype).rows for dtype in ("bfloat16", "float32"))
    assert half.dtype == torch.float32
    assert not torch.equal(half, whole)
    torch.testing.assert_close(half, whole, atol=0.2, rtol=0.1)


# --- which layers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "site", "expected"),
    [
        ("all", "residual", {"0": 8, "1": 8, "2": 8, "3": 8}),
        (-1, "residual", {"3": 8}),
        ([2, 0], "residual", {"0": 8, "2": 8}),
        ("all", "mlp", {"mlp.0": 8, "mlp.1": 8, "mlp.2": 8}),
        ([0, 2], "mlp_hidden", {"mlp_hidden.0": 12, "mlp_hidden.2": 12}),
        (
            ["layers.1.mlp.*_proj"],
            "residual",
            {"layers.1.mlp.gate_proj": 12, "layers.1.mlp.up_proj": 12, "layers.1.mlp.down_proj": 8},
        ),
    ],
)
@pytest.mark.parametrize("stored", [False, True])
def test_layers_have_their_names_and_widths(small, text, tmp_path, layers, site, expected, stored):
    data = activations(small, text, layers=layers, site=site, store=str(tmp_path / "store") if stored else None)
    parts = data.sources()
    assert {part.place.layer: part.d_model for part in parts} == expected
    assert {part.place.layer: part.rows.shape[1] for part in parts} == expected
    assert [part.label for part in parts] == [f"llama layer {name}" for name in expected]
    assert {part.place.model for part in parts} == {"llama"}
    assert data.d_model == next(iter(expected.values()))


def test_a_sublayer_is_what_the_model_adds_to_the_stream(small, text):
    sites = {site: activations(small, text, layers=1, site=site).rows for site in ("attention", "mlp")}
    before, after = (activations(small, text, layers=layer).rows for layer in (1, 2))
    torch.testing.assert_close(before + sites["attention"] + sites["mlp"], after, atol=1e-5, rtol=1e-4)


def test_several_layers_are_no_data_for_one_dictionary(small, text):
    data = activations(small, text, layers=[0, 2])
    assert data.label == "llama layers 0, 2"
    with pytest.raises(
        ValueError,
        match=r"data are 2 layers \(llama layer 0, llama layer 2\).*give one of them, or use `sparsecode measure`",
    ):
        data.setup()
    assert len(data.sources()[1].rows) > 1000


def test_one_layer_is_data_for_one_dictionary(small, text):
    data = activations(small, text, layers=2)
    data.setup()
    assert torch.equal(data.rows, activations(small, text).sources()[2].rows)
    assert (data.source.place, data.label) == (Place("llama", "2"), "llama layer 2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 9}, "layers is 9, and the hidden states of this LlamaModel are 0 to 3"),
        ({"layers": "encoder.*"}, r"layers is 'encoder\.\*', and no module.*layers\.\*\.mlp"),
        ({"context_length": 257}, "context_length is 257, but the model takes 256 tokens"),
    ],
)
def test_what_the_model_does_not_have_is_refused(small, text, settings, message):
    with pytest.raises(ValueError, match=message):
        activations(small, text, **settings).sources()[0].load()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_activations": 1}, "num_activations is 1: give at least 2"),
        ({"context_length": 1}, "context_length is 1: give at least 2"),
        ({"skip_first": 256}, "skip_first is 256: give at least 0 and less than context_length, 256"),
        ({"max_norm_ratio": 1.0}, "max_norm_ratio is 1.0: give a multiple of the median norm above 1"),
        ({"max_norm_ratio": float("nan")}, "max_norm_ratio is nan"),
        ({"batch_tokens": 0}, "batch_tokens is 0: give at least 1"),
        ({"shard_rows": 0}, "shard_rows is 0: give at least 1"),
        ({"random_weights": -1}, "random_weights is -1: give at least 0"),
        ({"random_weights": 0, "randomise": "some"}, "randomise is 'some': give one of all, all_but_embeddings, shuf"),
        ({"randomise": "shuffled"}, "randomise is 'shuffled', but random_weights is None"),
        ({"streaming": True}, "streaming is true, and the text may be endless"),
        ({"stream": True}, "stream is true and num_activations null"),
        ({"stream": True, "streaming": True, "num_activations": 9}, "give max_documents"),
        ({"refill_share": 0.0}, r"refill_share is 0.0: give a share in \(0, 1\]"),
        ({"buffer_size": 100}, "buffer_size is 100: give at least batch_size, which is 1024"),
        ({"max_documents": 0}, "max_documents is 0"),
    ],
)
def test_arguments_out_of_range_are_refused_at_once(small, text, settings, message):
    with pytest.raises(ValueError, match=message):
        activations(small, text, **settings)


def test_the_provenance_makes_the_same_again(small, text, monkeypatch):
    monkeypatch.chdir(Path(small).parent)
    data = activations("./llama", text, layers=1, skip_first=1)
    provenance = json.loads(json.dumps(data.source.provenance))
    monkeypatch.chdir("/")
    assert provenance["class_path"] == "sparsecode_transformer.TransformerActivations"
    assert torch.equal(
        TransformerActivations(**provenance["init_args"]).rows, activations(small, text, layers=1, skip_first=1).rows
    )


def test_a_store_knows_the_words_of_its_text(small, text, tmp_path):
    data = activations(small, text, layers=1, store=str(tmp_path / "store"))
    data.cache()
    stored, tokens = ActivationStore(str(tmp_path / "store")).source, data.source.columns["token_id"]
    assert stored.vocabulary.strings == data.source.vocabulary.strings
    assert all(stored.vocabulary.strings[token] for token in tokens.tolist())


def test_a_filled_store_is_read_by_activation_store(small, text, tmp_path):
    data = activations(small, text, store=str(tmp_path / "store"), shard_rows=500)
    data.prepare_data()
    stored = ActivationStore(str(tmp_path / "store"))
    for part, other in zip(stored.sources(), data.sources(), strict=True):
        assert (part.label, part.place, part.d_model) == (other.label, other.place, other.d_model)
        assert torch.equal(part.rows[:], other.rows[:])
        assert all(torch.equal(column, other.columns[name]) for name, column in part.columns.items())
    assert stored.sources()[0].provenance["init_args"] == data.sources()[0].provenance["init_args"]


@pytest.mark.parametrize("stored", [False, True])
def test_a_part_goes_to_another_process_without_the_model(small, text, tmp_path, stored, passes):
    data = activations(small, text, store=str(tmp_path / "store") if stored else None, batch_size=64)
    data.prepare_data()
    part = data.over(data.sources()[1])
    part.setup()
    batch = part.train_batch(2, 1)
    pickled = pickle.dumps(part)
    passes.clear()
    there = pickle.loads(pickled)  # noqa: S301
    assert torch.equal(there.rows[:], part.rows[:])
    assert torch.equal(there.train_batch(2, 1), batch)
    assert (there.d_model, there.label, there.source.place) == (8, part.label, part.source.place)
    columns = there.source.columns
    assert all(torch.equal(columns[name], column) for name, column in part.source.columns.items())
    assert passes == []
    rows = part.rows.shape[0] * 8 * 4
    assert len(pickled) < 4 * rows  # not all the layers
    if stored:
        index = 4 * 8 * len(part.rows)  # the split, its buckets, its groups and its order
        assert len(pickled) < index + 10_000


# --- stream -----------------------------------------------------------------------------------------------------------

EXACT = "donot_use_mm_for_euclid_dist"
STREAM = {"layers": 2, "num_activations": 300, "stream": True, "batch_size": 32, "buffer_size": 128}


def as_rank(data: TransformerActivations, rank: int, world_size: int) -> TransformerActivations:
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size)  # type: ignore[assignment]
    data.setup()
    return data


@pytest.fixture
def by_place(small, text):
    """Gives the documents of rows, known by their values, where no other document has them."""
    everything = activations(small, text, layers=2)
    document = everything.source.columns["document"]

    def documents(rows: torch.Tensor) -> set[int]:
        alike = torch.cdist(rows, everything.rows, compute_mode=EXACT) < 1e-4
        assert alike.any(1).all()
        candidates = [set(document[found].tolist()) for found in alike]
        return set().union(*(found for found in candidates if len(found) == 1))

    return documents


def test_training_batches_are_fresh_while_the_first_rows_are_scored(small, text, by_place):
    data = activations(small, text, **STREAM)
    data.setup()
    assert data.rows.shape == (300, 8)
    assert sum(len(index) for index in data.row_sets.values()) + data.split.copies == 300
    assert list(data.row_sets) == ["train", "heldout", "unseen"]
    trained = torch.cat([data.train_batch(0, index) for index in range(40)])
    assert trained.dtype == torch.float32
    scored, fresh = by_place(data.rows), by_place(trained)
    assert not scored & fresh
    assert len(fresh) > 20
    assert scored == set(data.source.columns["document"].tolist())


def test_a_packed_document_of_which_a_part_is_scored_is_not_trained_on(small, text):
    data = activations(small, text, **STREAM, packing=True, context_length=40)
    everything = activations(small, text, layers=2, packing=True, context_length=40)
    data.setup()
    scored = set(data.source.columns["document"].tolist())
    documents = everything.source.columns["document"]
    assert int((documents == max(scored)).sum()) > int((data.source.columns["document"] == max(scored)).sum())
    assert scored.isdisjoint(data.source.stream.values("document").tolist())
    trained = torch.cat([data.train_batch(0, index) for index in range(20)])
    others = everything.rows[documents > max(scored)]
    assert (torch.cdist(trained, others, compute_mode=EXACT) < 1e-4).any(1).all()


def test_a_stream_leaves_out_what_is_held_out_by_another_column(small, text):
    data = activations(small, text, **STREAM, heldout_by="position", context_length=20)
    data.setup()
    positions = data.source.columns["position"]
    held = set(positions.tolist()) - set(positions[data.train_index].tolist())
    assert len(held) > 0
    everything = activations(small, text, layers=2, context_length=20)
    trained = torch.cat([data.train_batch(0, index) for index in range(20)])
    alike = torch.cdist(trained, everything.rows, compute_mode=EXACT) < 1e-4
    positions = everything.source.columns["position"]
    found = [set(positions[each].tolist()) for each in alike]
    assert all(found)
    assert not any(each <= held for each in found)


def test_a_pass_of_the_stream_gives_each_token_once_before_any_comes_again(small, text):
    everything = activations(small, text, layers=2)
    data = activations(small, text, **STREAM | {"batch_size": 1, "buffer_size": 1, "refill_share": 1.0})
    data.setup()
    unseen = data.source.columns["token_id"][data.unseen_index]
    columns = everything.source.columns
    fresh = columns["document"] > max(data.source.columns["document"])
    fresh = everything.rows[fresh & ~torch.isin(columns["token_id"], unseen)]
    for first in (0, len(fresh)):
        rows = torch.cat([data.train_batch(0, first + index) for index in range(len(fresh))])
        found, expected = (torch.cdist(x, fresh, compute_mode=EXACT) < 1e-4 for x in (rows, fresh))
        assert torch.equal(found.sum(0), expected.sum(0))  # some texts begin alike


def test_a_batch_of_the_stream_depends_on_seed_epoch_and_number_alone(small, text):
    data, other = activations(small, text, **STREAM), activations(small, text, **STREAM)
    data.setup()
    in_order = {(epoch, index): data.train_batch(epoch, index) for epoch in range(2) for index in range(4)}
    for key in [(1, 2), (0, 3), (0, 0), (1, 2), (1, 3)]:
        torch.testing.assert_close(other.train_batch(*key), in_order[key])
    there = pickle.loads(pickle.dumps(data))  # noqa: S301
    torch.testing.assert_close(there.train_batch(1, 1), in_order[1, 1])
    torch.testing.assert_close(data.train_batch(1, 2), in_order[1, 2])
    assert not torch.equal(in_order[0, 0], in_order[1, 0])
    assert not torch.equal(in_order[0, 0], in_order[0, 1])
    seeded = activations(small, text, **STREAM, seed=1)
    assert not torch.equal(seeded.train_batch(0, 0), in_order[0, 0])


def test_processes_capture_other_sequences_and_get_as_many_batches(small, text, by_place):
    ranks = [as_rank(activations(small, text, **STREAM, batches_per_round=10), rank, 2) for rank in range(2)]
    batches = [list(data.train_dataloader()) for data in ranks]
    assert [[batch.shape for batch in each] for each in batches] == [[(16, 8)] * 10] * 2
    seen = [by_place(torch.cat(each)) for each in batches]
    assert not seen[0] & seen[1]
    assert all(seen)


def test_a_stream_on_two_processes_differs_in_order_but_not_in_expectation(small, text):
    stream, passes = activations(small, text, **STREAM).source.stream, 10
    fresh = int(stream._capture.fresh({}).keep.sum())
    number = passes * fresh // 32
    alone = torch.cat([stream.batch(0, index, 32, 0, 1) for index in range(number)])
    shares = [torch.cat([stream.batch(0, index, 32, rank, 2) for index in range(number)]) for rank in range(2)]
    together = torch.cat(shares)
    assert alone.shape == together.shape
    assert not torch.equal(alone[:32].sort(0).values, torch.cat([share[:16] for share in shares]).sort(0).values)
    error = alone.std(0) / 20  # whole passes have the same mean, so only what is begun and not ended differs
    assert ((alone.mean(0) - together.mean(0)).abs() < error).all()
    torch.testing.assert_close(together.T.cov(), alone.T.cov(), rtol=0.1, atol=0.05 * float(alone.var(0).max()))


def test_a_share_depends_on_the_place_alone(small, text):
    stream, other = (activations(small, text, **STREAM).source.stream for _ in range(2))
    places = [(0, 0, 32, 0, 2), (0, 0, 32, 1, 2), (0, 1, 32, 0, 2), (0, 1, 16, 0, 1)]
    shares = [stream.batch(*place) for place in places]
    assert [len(share) for share in shares] == [16, 16, 16, 16]
    for place, share in reversed(list(zip(places, shares, strict=True))):
        torch.testing.assert_close(other.batch(*place), share)
    assert not torch.equal(shares[0], shares[1])


def test_the_old_name_says_the_new_one():
    with pytest.raises(ImportError, match="HookedTransformer is now TransformerActivations"):
        from sparsecode_transformer import HookedTransformer  # noqa: F401


def test_rows_to_begin_with_are_fresh_and_drawn_by_the_generator_given(small, text, by_place):
    data = activations(small, text, **STREAM)
    data.setup()
    first, again, other = (data.sample(70, generator(seed)) for seed in (0, 0, 1))
    assert first.shape == (70, 8)
    torch.testing.assert_close(first, again)
    assert not torch.equal(first, other)
    assert not by_place(first) & by_place(data.rows)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_text_that_all_is_scored_has_no_stream(small, text, ranks):
    there = len(activations(small, text, layers=2).rows)
    data = activations(small, text, **STREAM | {"num_activations": there})
    with pytest.raises(ValueError, match="stream is true, but of 80 sequences all but 0 hold the num_activations"):
        as_rank(data, 0, ranks)


@pytest.mark.parametrize("stored", [False, True])
def test_the_norm_limit_holds_for_the_stream_too(small, text, tmp_path, stored):
    store = str(tmp_path / "store") if stored else None
    data = activations(small, text, **STREAM | {"layers": 1}, max_norm_ratio=2, store=store)
    data.setup()
    limit = 2 * activations(small, text, layers=1).rows.norm(dim=1).median()
    trained = torch.cat([data.train_batch(0, index) for index in range(20)])
    assert trained.norm(dim=1).max() <= limit * 1.0001
    assert activations(small, text, layers=1).rows.norm(dim=1).max() > limit


def test_a_stream_knows_the_values_of_its_text(small, text):
    everything = activations(small, text, layers=2).source.columns
    data = activations(small, text, **STREAM)
    fresh = everything["document"] > max(data.source.columns["document"])
    for name in COLUMNS:
        assert torch.equal(data.source.stream.values(name), everything[name][fresh].unique())


def test_a_stream_leaves_out_tokens_and_gives_all_others(small, text):
    data = activations(small, text, **STREAM | {"layers": 0, "batch_size": 32, "buffer_size": 64})
    stream = data.source.stream
    values = stream.values("token_id")
    left_out = values[::3]
    without = stream.without("token_id", left_out[::2].long()).without("token_id", left_out[1::2])
    kept = set(values.tolist()) - set(left_out.tolist())
    assert set(without.values("token_id").tolist()) == kept
    rows = torch.cat([without.batch(0, index, 32, 0, 1) for index in range(150)])  # more than the text has
    table = load_model(small, device="cpu").get_input_embeddings().weight  # hidden state 0 is the token's embedding
    assert set(torch.cdist(rows, table, compute_mode=EXACT).argmin(1).tolist()) == kept
    assert torch.equal(stream.values("token_id"), values)


@pytest.mark.parametrize("column", COLUMNS)
def test_any_column_may_be_left_out_by(small, text, column):
    everything = activations(small, text, layers=2)
    data = activations(small, text, **STREAM | {"batch_size": 1, "buffer_size": 1, "refill_share": 1.0})
    left_out = data.source.stream.values(column)[1::2]
    columns = everything.source.columns
    fresh = columns["document"] > max(data.source.columns["document"])
    expected = everything.rows[fresh & ~torch.isin(columns[column], left_out)]
    stream = data.source.stream.without(column, left_out)
    rows = torch.cat([stream.batch(0, index, 1, 0, 1) for index in range(len(expected))])
    found, wanted = (torch.cdist(x, expected, compute_mode=EXACT) < 1e-4 for x in (rows, expected))
    assert torch.equal(found.sum(0), wanted.sum(0))  # each once in the first pass; some texts begin alike


def test_leaving_out_nothing_changes_no_batch(small, text):
    stream, other = (activations(small, text, **STREAM).source.stream for _ in range(2))
    without = other.without("token_id", torch.tensor([99_999]))
    for place in [(0, 0, 32, 0, 1), (1, 3, 32, 1, 2)]:
        torch.testing.assert_close(without.batch(*place), stream.batch(*place))
    there = pickle.loads(pickle.dumps(without))  # noqa: S301
    torch.testing.assert_close(there.batch(1, 3, 32, 1, 2), without.batch(1, 3, 32, 1, 2))


@pytest.mark.parametrize("column", ["token_id", "document"])
def test_a_stream_of_which_nothing_is_left_is_refused(small, text, column):
    stream = activations(small, text, **STREAM).source.stream
    empty = stream.without(column, stream.values(column))
    for ask in (lambda: empty.check(32, 1, 1), lambda: empty.batch(0, 0, 32, 0, 1), lambda: empty.values(column)):
        with pytest.raises(
            ValueError, match=f"all but 0 hold the num_activations.*or have only tokens whose {column} is"
        ):
            ask()


def test_a_stream_has_too_few_sequences_if_few_are_left(small, text):
    stream = activations(small, text, **STREAM).source.stream
    documents = stream.values("document")
    one = stream.without("document", documents[1:])
    one.check(1, 1, 1)
    with pytest.raises(ValueError, match="all but 1 hold the num_activations"):
        one.check(2, 1, 2)
    assert one.batch(0, 0, 32, 0, 1).shape == (32, 8)  # the same document over and over


def test_a_stream_has_no_other_columns(small, text):
    stream = activations(small, text, **STREAM).source.stream
    for ask in (lambda: stream.values("word"), lambda: stream.without("word", torch.tensor([1]))):
        with pytest.raises(ValueError, match="column is 'word', but the columns of a text are token_id, position"):
            ask()


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_dictionary_is_learnt_of_a_stream(small, text, tmp_path):
    data = activations(small, text, **STREAM, batches_per_round=3)
    module = SparseCodingModule(d_model=8, num_atoms=16, lam=0.5)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path
    )
    trainer.fit(module, data)
    assert trainer.global_step == 3
    assert module.dictionary.atoms.isfinite().all()

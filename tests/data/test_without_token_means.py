import pickle

import pytest
import torch

from sparsecode_pl.data import (
    ActivationDataModule,
    ActivationStore,
    Place,
    SampledSource,
    Source,
    SourceActivations,
    SubsetSource,
    TensorSource,
    TokenMeans,
    WithoutTokenMeans,
    write_store,
)


def text(spread=0.5, n=3000, types=300, width=6, seed=0) -> TensorSource:
    """Rows of tokens by Zipf's law in documents of ten, around a mean for each token."""
    random = torch.Generator().manual_seed(seed)
    token = torch.multinomial(1 / torch.arange(1.0, types + 1), n, replacement=True, generator=random)
    x = torch.randn(types, width, generator=random)[token] + spread * torch.randn(n, width, generator=random)
    columns = {"token_id": token.int(), "document": torch.arange(n).int() // 10, "word": [f"w{t}" for t in token]}
    return TensorSource(x, "mine", columns=columns, place=Place("model", "3"), provenance={"by": "hand"})


def without(source: Source, **settings) -> SourceActivations:
    return SourceActivations(source, remove="token_mean", **settings)


def test_rows_are_those_of_the_source_without_the_means_of_its_training_rows():
    source = text()
    whole, left = SourceActivations(source, seed=3), without(source, seed=3)
    means = TokenMeans(source.rows, source.columns["token_id"], whole.train_index, whole.split.groups)
    kept = left.source.index
    assert torch.equal(left.rows[:], means.residual(kept))
    assert torch.equal(left.rows[torch.tensor([5, 2])], means.residual(kept[[5, 2]]))
    assert (len(left.rows), left.rows.shape, left.d_model) == (len(kept), (len(kept), 6), 6)


def test_rows_stay_on_the_side_where_they_are_in_the_source():
    source = text()
    whole, left = SourceActivations(source, seed=3), without(source, seed=3)
    kept, tokens = left.source.index, source.columns["token_id"]
    assert set(left.row_sets) == {"train", "heldout"}  # nothing is known of unseen tokens
    for index in left.row_sets.values():
        assert torch.equal(left.split.buckets[index], whole.split.buckets[kept[index]])
    documents = source.columns["document"]
    train = whole.train_index
    pairs = torch.stack([tokens[train], documents[train]]).unique(dim=1)
    count = pairs[0].bincount(minlength=300)  # training documents with each token
    assert (count == 1).any()
    for kind in ("train", "heldout"):
        rows = whole.row_sets[kind]
        assert torch.equal(kept[left.row_sets[kind]], rows[count[tokens[rows]] > 1])


def test_the_facts_are_those_of_the_rows_that_are_kept():
    left = without(text())
    tokens = left.source.columns["token_id"]
    split = left.split
    assert (split.num_distinct, split.distinct_trained) == (len(left.rows), len(left.train_index))
    assert split.num_types == split.types_trained == len(tokens.unique())
    assert split.seen_share == 1


def test_columns_place_and_provenance_pass_through():
    source = text()
    left = without(source).source
    assert left.label == "mine without token means"
    assert left.place == Place("model without token means", "3")
    assert left.provenance == {"by": "hand", "removed": "token_mean"}
    assert torch.equal(left.columns["token_id"], source.columns["token_id"][left.index])
    assert left.columns["word"] == [f"w{token}" for token in left.columns["token_id"].tolist()]
    assert (left.stream, left.ground_truth) == (None, None)


def test_no_token_mean_is_left():
    source = text(spread=1.0)
    left = without(source, unseen_split=0)

    def explained(data, rows):
        means = TokenMeans(data.rows, data.source.columns["token_id"], data.train_index, data.split.groups)
        before = data.rows[rows] - data.rows[rows].mean(0)
        return 1 - float(means.residual(rows).square().sum() / before.square().sum())

    assert explained(SourceActivations(source), SourceActivations(source).heldout_index) > 0.3
    assert abs(explained(left, left.heldout_index)) < 0.03


def test_another_source_loses_its_own_means_with_the_same_split():
    source, other = text(), text(seed=1)
    other = TensorSource(other.rows, "other", columns=source.columns)
    left = without(source, seed=2)
    again = left.source.again(other)
    assert again.label == "other without token means"
    assert torch.equal(again.rows[:], without(other, seed=2).rows[:])
    control = left.over(again)
    for kind, index in left.row_sets.items():
        assert torch.equal(control.row_sets[kind], index)
    subset = SubsetSource(source, torch.tensor([4, 1])).again(other)
    assert torch.equal(subset.rows[:], other.rows[[4, 1]])


class Layers(ActivationDataModule):
    """Two layers, of which the second has larger rows."""

    def sources(self):
        source = text()
        return [source, TensorSource(3 * source.rows, "three", columns=source.columns)]


def test_each_layer_loses_its_own_means():
    data = Layers(remove="token_mean")
    first, second = (data.over(source) for source in data.layers)
    assert data.layers[0] is data.layers[0]
    torch.testing.assert_close(second.rows[:], 3 * first.rows[:], rtol=1e-4, atol=1e-5)
    assert torch.equal(first.train_index, second.train_index)
    assert data.d_model == 6


def test_rows_on_disk_give_the_same(tmp_path):
    source = text()
    columns = {name: column for name, column in source.columns.items() if name != "word"}
    parts = (slice(0, 1000), slice(1000, 3000))
    blocks = [{"3": source.rows[part], **{name: column[part] for name, column in columns.items()}} for part in parts]
    path = write_store(tmp_path / "store", blocks, shard_rows=1000)
    stored = ActivationStore(str(path), remove="token_mean")
    assert torch.equal(stored.rows[:], without(source).rows[:])


def test_the_source_can_be_pickled_before_and_after_its_rows_are_made():
    data = without(text())
    before = pickle.loads(pickle.dumps(data))  # noqa: S301
    assert torch.equal(before.rows[:], data.rows[:])
    after = pickle.loads(pickle.dumps(data.source))  # noqa: S301
    assert torch.equal(after.rows[:], data.rows[:])


def test_types_may_be_named_by_another_column():
    data = without(text(), unseen_by="word", unseen_split=0)
    assert torch.equal(data.rows[:], without(text(), unseen_split=0).rows[:])


class Endless(SampledSource):
    """Rows that are drawn afresh."""

    def __init__(self):
        super().__init__(100, stream=True, seed=0)

    def draw(self, num, random):
        return torch.randn(num, 3, generator=random)


def test_data_with_nothing_to_remove_or_nothing_left_is_refused():
    with pytest.raises(ValueError, match=r"remove is 'token_means': give 'token_mean', or leave it out"):
        SourceActivations(text(), remove="token_means")
    with pytest.raises(ValueError, match=r"stream is true, but remove is 'token_mean'.*leave out one of the two"):
        _ = without(Endless()).d_model
    plain = TensorSource(torch.randn(50, 3), columns={"position": torch.arange(50)})
    with pytest.raises(ValueError, match=r"remove is 'token_mean', and unseen_by is 'token_id', but .* are position"):
        _ = without(plain).rows
    one = TensorSource(torch.randn(50, 3), columns={"token_id": torch.zeros(50)})
    with pytest.raises(ValueError, match="unseen_by is 'token_id', a column with the same value in all rows"):
        _ = without(one, unseen_split=0).rows
    own = TensorSource(torch.randn(50, 3), columns={"token_id": torch.arange(50)})
    with pytest.raises(ValueError, match="no token_id of activations has training rows in two groups"):
        without(own).setup()
    with pytest.raises(ValueError, match="in mine all rows of the same token_id are equal, so that nothing would be"):
        without(text(spread=0.0)).setup()


def test_the_means_are_made_only_when_the_rows_are_asked_for():
    class Unread(TensorSource):
        """Rows that nothing may read."""

        def load(self):
            raise AssertionError("the rows were read")

        @property
        def d_model(self):
            return 5

    left = without(Unread(torch.ones(2, 5), "unread"))
    assert (left.d_model, left.label, left.source.place) == (5, "unread without token means", None)
    assert isinstance(left.source, WithoutTokenMeans)

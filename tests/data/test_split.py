import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsecode_pl.data import BUCKETS, TensorActivations, TensorSource
from sparsecode_pl.data.module import SourceActivations
from sparsecode_pl.data.split import split_rows

SETTINGS = {"val_split": 0.1, "unseen_split": 0.05, "heldout_by": None, "unseen_by": None, "seed": 0}


def split(x, columns, **settings):
    return split_rows(x, columns, **(SETTINGS | settings))


def text(n=4000, documents=200, types=500, seed=0, position=True):
    """Rows that are determined by token and position, with tokens by Zipf's law."""
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, types + 1)
    token = torch.from_numpy(random.choice(types, n, p=share / share.sum()))
    document = torch.arange(n) * documents // n
    place = torch.arange(n) % 7 if position else torch.zeros(n, dtype=torch.int64)
    rows = torch.randn(types, 7, 3, generator=torch.Generator().manual_seed(seed))[token, place]
    return rows, {"token_id": token.int(), "document": document.int()}


def values(column, index):
    return set(column[index].tolist())


@given(seed=st.integers(0, 50), val_split=st.floats(0.05, 0.5), unseen_split=st.floats(0.02, 0.2))
def test_no_group_and_no_equal_rows_are_on_two_sides(seed, val_split, unseen_split):
    x, columns = text(seed=seed)
    done = split(x, columns, seed=seed, val_split=val_split, unseen_split=unseen_split)
    train, heldout, unseen = (done.rows[kind] for kind in ("train", "heldout", "unseen"))
    tokens, documents = columns["token_id"], columns["document"]
    assert not values(documents, train) & values(documents, heldout)
    assert not values(tokens, train) & values(tokens, unseen)
    assert values(tokens, heldout) <= values(tokens, train)
    sides = [{tuple(row) for row in x[index].tolist()} for index in (train, heldout, unseen)]
    assert not any(sides[one] & sides[other] for one, other in ((0, 1), (0, 2), (1, 2)))
    assert len(train) + len(heldout) + len(unseen) + done.copies == len(x)


def test_the_sizes_are_near_those_asked_for_and_frequent_types_stay_in_training():
    x, columns = text(n=20_000, types=4000, documents=1000)
    x += torch.randn(x.shape, generator=torch.Generator().manual_seed(1))  # no copies
    done = split(x, columns)
    tokens = columns["token_id"].long()
    drawn = tokens.bincount()[list(values(tokens, done.rows["unseen"]))]
    assert drawn.max() <= 0.1 * 0.05 * len(x)
    # Held-out documents hold some types of their own, too.
    assert 0.045 * len(x) <= len(done.rows["unseen"]) <= 0.07 * len(x)
    assert 0.08 * len(x) <= len(done.rows["heldout"]) <= 0.1 * len(x)
    held = torch.isin(columns["document"], columns["document"][done.rows["heldout"]].unique())
    assert done.seen_share == pytest.approx(len(done.rows["heldout"]) / float(held.sum()), abs=0.01)
    assert (done.num_distinct, done.distinct_trained) == (len(x), len(done.rows["train"]))
    assert done.num_types == len(tokens.unique())
    assert done.types_trained == len(tokens[done.rows["train"]].unique())


def test_held_out_copies_are_left_out():
    """Without positions every row of a type is the same, so no held-out row of a trained type is new."""
    x, columns = text(position=False)
    done = split(x, columns)
    assert list(done.rows) == ["train", "unseen"]
    assert done.num_distinct == done.num_types
    assert done.copies > 0.05 * len(x)


def test_rows_of_one_type_each_are_unseen_tokens_when_held_out():
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    done = split(x, {"token_id": torch.arange(300)})
    assert list(done.rows) == ["train", "heldout"]
    assert done.heldout_is_unseen
    assert done.seen_share == 0
    assert done.rows["heldout"].equal(split(x, {}).rows["heldout"])  # the column changes nothing


def test_repeated_noise_is_split_by_its_distinct_rows():
    random = np.random.default_rng(0)
    token = torch.from_numpy(random.zipf(1.3, 5000) % 2000)
    x = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))[token]
    for columns in ({}, {"token_id": token}):
        done = split(x, columns)
        assert list(done.rows) == ["train", "heldout"]
        assert done.heldout_is_unseen == bool(columns)
        assert not values(token, done.rows["train"]) & values(token, done.rows["heldout"])
        assert len(done.rows["heldout"]) == 500
        assert done.num_distinct == len(token.unique())


def test_a_column_of_words_serves_as_well_as_one_of_numbers():
    x, columns = text()
    words = [f"speaker {int(number) % 40}" for number in columns["document"]]
    done = split(x, {"speaker": words}, heldout_by="speaker")
    heldout = {words[row] for row in done.rows["heldout"]}
    assert not heldout & {words[row] for row in done.rows["train"]}
    assert 1 <= len(heldout) <= 4  # a tenth of 40


def test_single_rows_may_be_held_out_although_there_are_documents():
    x, columns = text()
    done = split(x, columns, heldout_by="rows")
    shared = values(columns["document"], done.rows["train"]) & values(columns["document"], done.rows["heldout"])
    assert len(shared) > 50


def test_known_types_count_as_trained():
    x, columns = text(n=400, types=300, documents=100)
    x += torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    alone = split(x, columns)
    beside = split(x, columns, known_types=lambda held: torch.arange(300))
    assert len(beside.rows["unseen"]) < len(alone.rows["unseen"])
    assert len(beside.rows["heldout"]) > len(alone.rows["heldout"])
    assert values(columns["token_id"], beside.rows["unseen"]).isdisjoint(
        values(columns["token_id"], beside.rows["train"])
    )


def test_known_types_may_be_strings_and_depend_on_what_is_held_out():
    x, columns = text(n=400, types=300, documents=100)
    x += torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    columns["word"] = [f"w{number}" for number in columns["token_id"].tolist()]
    asked = []

    def known(held):
        asked.append(held)
        return sorted(set(columns["word"]))

    done = split(x, columns, unseen_by="word", known_types=known)
    expected = split(x, columns, unseen_by="word")
    assert len(done.rows["heldout"]) > len(expected.rows["heldout"])
    documents = columns["document"]
    assert values(documents, asked[0].nonzero()[:, 0]).isdisjoint(values(documents, done.rows["train"]))


def test_few_groups_that_miss_the_share_by_far_are_warned_of(recwarn):
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    warning = r"val_split is 0\.1, but 50% of the rows are held out, .*'document' has only 2 values.* heldout_by 'rows'"
    with pytest.warns(UserWarning, match=warning):
        split(x, {"document": torch.arange(60) % 2})
    recwarn.clear()
    split(x, {"document": torch.arange(60) % 2}, val_split=0.3)
    split(x, {"document": torch.arange(60) % 2}, heldout_by="rows")
    split(x, {"document": torch.arange(60) % 10})
    assert not recwarn


def test_no_share_means_no_rows():
    x, columns = text()
    assert list(split(x, columns, val_split=0).rows) == ["train"]
    assert list(split(x, columns, unseen_split=0).rows) == ["train", "heldout"]


def test_buckets_hold_whole_groups_in_nearly_equal_numbers():
    x, columns = text(n=20_000, documents=5000)
    done = split(x, columns)
    for kind, index in done.rows.items():
        groups = columns["token_id" if kind == "unseen" else "document"]
        documents, buckets = groups[index].long(), done.buckets[index]
        pairs = torch.stack([documents, buckets]).unique(dim=1)
        assert pairs.shape[1] == len(documents.unique())  # one bucket a group
        sizes = pairs[1].bincount(minlength=min(BUCKETS, pairs.shape[1]))
        assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        (
            {},
            {"heldout_by": "speaker"},
            "heldout_by is 'speaker', but the columns of the rows are none at all: .* or 'rows' to hold out single",
        ),
        ({"a": torch.arange(60), "b": torch.arange(60)}, {"unseen_by": "c"}, "unseen_by is 'c', .* are a, b: give one"),
        (
            {"document": torch.zeros(60)},
            {},
            "heldout_by is 'document', a column with the same value in all rows: give another column, or 'rows'",
        ),
        (
            {"token_id": torch.arange(60) % 19},
            {},
            "unseen_by is 'token_id', a column with 19 values, .* unseen_split 0",
        ),
        ({"document": torch.arange(60) % 2}, {"unseen_split": 0, "val_split": 0.9}, None),
        ({}, {"val_split": 0.001}, "val_split is 0.001, and so holds out none of 60 rows"),
    ],
)
def test_what_cannot_be_split_is_refused(columns, settings, message):
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    if message is None:
        assert list(split(x, columns, **settings).rows) == ["train", "heldout"]
        return
    with pytest.raises(ValueError, match=message):
        split(x, columns, **settings)


def test_a_side_without_rows_is_refused():
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    x[:59] = x[0]  # two different rows, one of them nearly always
    data = TensorActivations(x, val_split=0.5, batch_size=4)
    assert len(data.heldout_index) == 1
    with pytest.raises(ValueError, match="all 60 rows are equal"):
        _ = TensorActivations(x[:1].repeat(60, 1)).train_index
    # Every document holds the same rows, so that none of them is new when it is held out.
    copies = x[:1] + torch.arange(6.0).repeat(10)[:, None]
    with pytest.raises(ValueError, match=r"no held-out rows are left with val_split 0\.1"):
        split(copies, {"document": torch.arange(60) // 6})


def test_the_data_module_splits_by_the_columns_of_its_source():
    x, columns = text()
    data = SourceActivations(TensorSource(x, columns=columns), batch_size=64)
    assert list(data.row_sets) == ["train", "heldout", "unseen"]
    assert [len(loader.dataset.parts[0]) > 0 for loader in data.val_dataloader()] == [True] * 3
    trained = torch.cat(list(data.train_dataloader()))
    unseen = {tuple(row) for row in x[data.unseen_index].tolist()}
    assert not unseen & {tuple(row) for row in trained.tolist()}
    control = data.over(TensorSource(torch.randn(50, 3)), control=True)
    assert list(control.row_sets) == ["train", "heldout"]


def test_a_control_of_the_same_columns_is_split_as_the_data_is():
    x, columns = text()
    data = SourceActivations(TensorSource(x, columns=columns), batch_size=64, heldout_by="document")
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    control = data.over(TensorSource(noise, columns=dict(columns)), control=True)
    assert control.row_sets.keys() == data.row_sets.keys()
    assert all(torch.equal(control.row_sets[kind], index) for kind, index in data.row_sets.items())
    assert torch.equal(control.split.buckets, data.split.buckets)
    assert control.split.num_distinct == len(noise)
    # Rows that are equal only in the control are on one side there, too.
    noise[data.heldout_index[0]] = noise[data.train_index[0]]
    repeated = data.over(TensorSource(noise, columns=dict(columns)), control=True)
    assert torch.equal(repeated.heldout_index, data.heldout_index[1:])


@pytest.mark.parametrize("heldout_by", [None, "document"])
def test_a_control_without_the_columns_is_split_by_rows(heldout_by):
    x, columns = text()
    data = SourceActivations(TensorSource(x, columns=columns), batch_size=64, heldout_by=heldout_by)
    noise = torch.randn(500, 3, generator=torch.Generator().manual_seed(1))
    control = data.over(TensorSource(noise), control=True)
    alone = TensorActivations(noise)
    assert list(control.row_sets) == ["train", "heldout"]
    assert all(torch.equal(control.row_sets[kind], index) for kind, index in alone.row_sets.items())


def test_a_column_that_is_not_there_is_refused_where_the_source_is_another_layer():
    x, columns = text()
    data = SourceActivations(TensorSource(x, columns=columns), heldout_by="documant")
    for use in (lambda: data.setup(), lambda: data.over(TensorSource(x, columns=columns)).setup()):
        with pytest.raises(ValueError, match=r"heldout_by is 'documant', .* are token_id, document: give one of them"):
            use()

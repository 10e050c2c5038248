import math
import pickle

import numpy as np
import pytest
import torch
from sparsecode_control import (
    DataRows,
    Gaussian,
    HeavyTailed,
    MatchedGaussian,
    Rademacher,
    RandomDictionary,
    RepeatedGaussian,
    Shuffled,
)
from sparsecode_synthetic import SparseLinear

from sparsecode_pl.data import (
    SampledActivations,
    SampledSource,
    Source,
    SourceActivations,
    SubsetSource,
    TensorActivations,
    TensorSource,
    distinct_rows,
)
from sparsecode_pl.module import SparseCodingModule

N, D = 20_000, 12
UNIT = [Gaussian, Rademacher, HeavyTailed]
OF_ROWS = [MatchedGaussian, RepeatedGaussian, Shuffled]
ALL = [*UNIT, *OF_ROWS]


def fresh(data: SampledSource | SampledActivations, num: int = N) -> torch.Tensor:
    return data.draw(num, torch.Generator().manual_seed(1))


def norms(rows: torch.Tensor) -> torch.Tensor:
    return rows.double().norm(dim=1)


@pytest.fixture(scope="module")
def source() -> TensorSource:
    """Correlated, skewed, not centred, and of rank 3 in 5 dimensions."""
    hidden = torch.randn(N, 3, generator=torch.Generator().manual_seed(0)).exp()
    mix = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 2], [0, 1, 1], [1, 1, 0]])
    return TensorSource(hidden @ mix.T + 3, label="source")


@pytest.mark.parametrize("control", UNIT)
def test_the_scored_rows_have_mean_norm_one(control):
    assert float(norms(control(d_model=D, num_samples=3000).rows).mean()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("control", [Gaussian, Rademacher])
@pytest.mark.parametrize("streamed", [False, True])
def test_mean_zero_and_isotropic(control, streamed, covariance):
    data = control(d_model=D, num_samples=N)
    rows = fresh(data) if streamed else data.rows
    np.testing.assert_allclose(rows.mean(0), 0, atol=5 * (1.1 / D / N) ** 0.5)
    power = float((norms(rows) ** 2).mean())
    np.testing.assert_allclose(covariance(rows), power / D * np.eye(D), atol=5 / D * (2 / N) ** 0.5)


def test_gaussian_entries_are_gaussian():
    rows = Gaussian(d_model=D, num_samples=N).rows.double()
    variance = float((rows**2).mean())
    chi_mean = math.sqrt(2) * math.gamma((D + 1) / 2) / math.gamma(D / 2)
    assert variance == pytest.approx(1 / chi_mean**2, rel=0.01)
    assert float((rows**4).mean()) == pytest.approx(3 * variance**2, rel=0.03)


def test_rademacher_entries_are_signs():
    rows = Rademacher(d_model=D, num_samples=100).rows
    np.testing.assert_allclose(rows.abs(), D**-0.5, rtol=1e-6)
    assert rows.dtype == torch.float32


@pytest.mark.parametrize("streamed", [False, True])
def test_heavy_tailed_norms_are_cauchy_and_directions_uniform(streamed):
    data = HeavyTailed(d_model=D, num_samples=N)
    rows = fresh(data) if streamed else data.rows
    sizes = norms(rows) / data.source.scale
    for q in (0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        assert float((sizes < math.tan(math.pi / 2 * q)).double().mean()) == pytest.approx(q, abs=0.015)
    directions = rows.double() / norms(rows)[:, None]
    np.testing.assert_allclose(directions.mean(0), 0, atol=5 * (1 / D / N) ** 0.5)
    np.testing.assert_allclose(directions.T @ directions / N, np.eye(D) / D, atol=5 / D * (2 / N) ** 0.5)
    assert abs(float(np.corrcoef(sizes.log(), directions[:, 0])[0, 1])) < 5 / N**0.5


@pytest.mark.parametrize("clip_norm", [1.5, 5])
def test_clipped_norms_stop_at_a_multiple_of_the_median(clip_norm):
    data = HeavyTailed(d_model=D, num_samples=N, clip_norm=clip_norm)
    scored, streamed = norms(data.rows), norms(fresh(data))
    assert float(scored.max() / scored.median()) == pytest.approx(clip_norm, rel=0.04)
    assert float(scored.max()) == pytest.approx(float(streamed.max()), rel=1e-5)
    clipped = 1 - 2 / math.pi * math.atan(clip_norm)
    assert float((scored > 0.9999 * scored.max()).double().mean()) == pytest.approx(clipped, abs=0.015)
    assert float(scored.mean()) == pytest.approx(1, abs=1e-6)


def test_clipping_leaves_smaller_rows_as_they_are():
    whole, clipped = (HeavyTailed(d_model=D, num_samples=100, clip_norm=clip) for clip in (None, 2))
    raw, cut = whole.rows / whole.source.scale, clipped.rows / clipped.source.scale
    small = norms(raw) < 1.99
    torch.testing.assert_close(raw[small], cut[small])
    assert 0 < int((~small).sum()) < 100


@pytest.mark.parametrize("clip_norm", [0, -1.0, float("nan")])
def test_clip_norm_must_be_positive(clip_norm):
    with pytest.raises(ValueError, match=f"clip_norm is {clip_norm}: give"):
        HeavyTailed(clip_norm=clip_norm)


def test_matched_gaussian_has_the_mean_and_covariance_of_its_source(source, covariance):
    for streamed in (False, True):
        data = MatchedGaussian().of(source)
        rows = fresh(data) if streamed else data.rows
        expected = covariance(source.rows)
        deviation = expected.diag().sqrt()
        error = (rows.double().mean(0) - source.rows.double().mean(0)) / deviation
        np.testing.assert_allclose(error, 0, atol=5 / N**0.5)
        error = (covariance(rows) - expected) / deviation / deviation[:, None]
        np.testing.assert_allclose(error, 0, atol=5 * (2 / N) ** 0.5)


def test_matched_gaussian_stays_in_the_span_of_a_source_without_full_rank(source):
    centred = source.rows.double() - source.rows.double().mean(0)
    null = torch.linalg.svd(centred, full_matrices=False).Vh[3:]
    rows = MatchedGaussian().of(source).rows.double()
    np.testing.assert_allclose((rows - rows.mean(0)) @ null.T, 0, atol=1e-4)
    assert float(rows.std(0).min()) > 1


def test_matched_gaussian_is_gaussian(source):
    rows = MatchedGaussian().of(source).rows.double()
    z = (rows - rows.mean(0)) / rows.std(0)
    np.testing.assert_allclose((z**3).mean(0), 0, atol=5 * (15 / N) ** 0.5)
    np.testing.assert_allclose((z**4).mean(0), 3, atol=5 * (96 / N) ** 0.5)


def test_matched_gaussian_moments_are_exact(source, covariance):
    mean, root = MatchedGaussian().of(source).moments
    torch.testing.assert_close(mean, source.rows.double().mean(0))
    torch.testing.assert_close(root @ root.T, covariance(source.rows))


def test_shuffled_permutes_every_dimension_on_its_own(source):
    rows = Shuffled().of(source).rows
    assert torch.equal(rows.sort(0).values, source.rows.sort(0).values)
    assert abs(np.corrcoef(source.rows.T)[1, 4]) > 0.999  # dimensions 1 and 4 of the source are equal
    correlations = np.corrcoef(np.concatenate([rows, source.rows], axis=1).T)
    np.fill_diagonal(correlations, 0)
    correlations[5:, 5:] = 0  # the source's own
    np.testing.assert_allclose(correlations, 0, atol=5 / N**0.5)


def test_shuffled_streams_values_of_each_dimension(source):
    rows = fresh(Shuffled().of(source), 1000)
    for column, values in zip(rows.T, source.rows.T, strict=True):
        assert set(column.tolist()) <= set(values.tolist())
        assert len(column.unique()) > 950
    assert abs(np.corrcoef(rows.T)[1, 4]) < 5 / 1000**0.5
    np.testing.assert_allclose(rows.mean(0), source.rows.mean(0), atol=5 * float(source.rows.std(0).max()) / 1000**0.5)


def test_shuffled_has_as_many_rows_as_its_source(source):
    assert Shuffled(num_samples=N).of(source).rows.shape == source.rows.shape
    with pytest.raises(ValueError, match=f"num_samples is 7, but source has {N} rows"):
        Shuffled(num_samples=7).of(source)


@pytest.mark.parametrize("control", ALL)
def test_draws_are_reproducible_and_differ_by_seed_and_batch(control, source):
    one, two, other = (control(stream=True, seed=seed).of(source) for seed in (0, 0, 1))
    assert torch.equal(one.rows, two.rows)
    assert not torch.equal(one.rows, other.rows)
    batches = [one.stream.batch(epoch, index, 1024, 0, 1) for epoch in range(2) for index in range(2)]
    assert torch.equal(batches[3], two.stream.batch(1, 1, 1024, 0, 1))
    if control not in (Rademacher, RepeatedGaussian):  # whose rows are few
        assert len(torch.cat([*batches, other.stream.batch(0, 0, 1024, 0, 1)]).unique(dim=0)) == 5 * 1024
    random = torch.Generator().manual_seed(0)
    assert not torch.equal(one.draw(20, random), one.draw(20, random))


@pytest.mark.parametrize("control", ALL)
@pytest.mark.parametrize("of", [*UNIT, SparseLinear], ids=lambda cls: cls.__name__)
def test_a_control_shares_no_random_numbers_with_a_source_of_the_same_seed(control, of):
    # Signs, because the heavy tails have no correlations; all pairs of dimensions, at the same and at the next place.
    source = of(d_model=D, num_samples=4000, stream=True)
    data = source.over(control().of(source.source))
    assert data.stream
    for x, y in ((source.rows, data.rows), (source.train_batch(0, 0), data.train_batch(0, 0))):
        a, b = x.sign().double(), y.sign().double()
        np.testing.assert_allclose(a.T @ b / len(a), 0, atol=5.5 / len(a) ** 0.5)
        assert abs(float((a.flatten()[1:] * b.flatten()[:-1]).mean())) < 5 / a.numel() ** 0.5


def test_labels(source):
    assert [control().label for control in ALL] == [control.__name__ for control in ALL]
    assert [control().of(source).label for control in ALL] == [control.__name__ for control in ALL]
    assert HeavyTailed(clip_norm=5).label == "HeavyTailed, norms <= 5 x median"


@pytest.mark.parametrize("control", ALL)
def test_each_source_asked_for_has_a_control_of_its_own(control, source):
    other = SubsetSource(source, torch.arange(100))
    asked = control()
    before = dict(vars(asked))
    one, two = asked.of(source), asked.of(other)
    assert (one.rows.shape, two.rows.shape) == ((N, 5), (100, 5))
    assert torch.equal(one.rows, control().of(source).rows)
    assert vars(asked) == before


@pytest.mark.parametrize("control", [MatchedGaussian, *UNIT])
def test_a_control_has_the_number_of_rows_and_the_streaming_that_it_was_given(control, source):
    assert control(num_samples=50).of(source).rows.shape == (50, 5)
    assert control().of(source).stream is None
    assert control(stream=True).of(source).stream is not None
    streaming = SparseLinear(d_model=5, num_samples=30, stream=True).source
    assert control().of(streaming).stream is not None
    assert control(stream=False).of(streaming).stream is None


@pytest.mark.parametrize("control", ALL)
def test_rows_are_drawn_when_they_are_asked_for_let_go_of_and_drawn_again_alike(control, source, monkeypatch):
    drawn = []
    made = control().of(source)
    original = type(made).load
    monkeypatch.setattr(type(made), "load", lambda self: drawn.append(self) or original(self))
    assert (made.d_model, made.num_samples, drawn) == (5, N, [])
    rows = made.rows
    assert made.rows is rows
    assert drawn == [made]
    made.release()
    assert not [x for x in vars(made).values() if x is rows]
    assert torch.equal(made.rows, rows)
    assert drawn == [made, made]


@pytest.mark.parametrize("control", ALL)
def test_it_goes_to_another_process_before_and_after_it_is_drawn(control, source):
    made = control().of(SubsetSource(source, torch.arange(100)))
    before = pickle.dumps(made)
    rows = made.rows
    assert torch.equal(pickle.loads(before).rows, rows)  # noqa: S301
    assert torch.equal(pickle.loads(pickle.dumps(made)).rows, rows)  # noqa: S301


@pytest.mark.parametrize("control", UNIT)
def test_noise_is_data_in_its_own_right_with_draws_of_its_own(control):
    data = control(d_model=4, num_samples=60)
    assert data.rows.shape == (60, 4)
    assert not torch.equal(data.rows, control().of(data.source).rows)
    assert (control().d_model, control().num_samples) == (256, 16384)


def test_a_width_of_its_own_must_be_that_of_the_data(source):
    assert Gaussian(d_model=5).of(source).d_model == 5
    with pytest.raises(ValueError, match="d_model is 8, but source has width 5: leave d_model out"):
        Gaussian(d_model=8).of(source)
    with pytest.raises(ValueError, match="d_model is 0: give at least 1"):
        Gaussian(d_model=0)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"num_samples": 1}, "num_samples is 1"), ({"seed": -1}, "seed is -1")]
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"{message}: give"):
        MatchedGaussian(**arguments)


@pytest.mark.parametrize(
    ("control", "init"), [(RandomDictionary, "random"), (DataRows, "data")], ids=lambda x: getattr(x, "__name__", x)
)
def test_a_dictionary_that_is_not_learnt_is_of_the_data_itself(source, control, init):
    asked = control()
    assert asked.of(source) is source
    assert asked.module == {"learn": False, "init": init}
    assert not any(other().module for other in ALL)
    assert asked.label == control.__name__


def test_the_atoms_of_data_rows_are_directions_of_centred_training_rows_after_a_fit(quiet_trainer):
    rows = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) + 3
    data = TensorActivations(rows, batch_size=16, batches_per_round=2)
    module = SparseCodingModule(d_model=4, num_atoms=20, lam=0.3, **DataRows().module)
    quiet_trainer(max_epochs=1).fit(module, data)
    training = data.rows[data.train_index]
    directions = torch.nn.functional.normalize(training - training.mean(0))
    nearest = (module.dictionary.atoms.detach() @ directions.T).max(1)
    np.testing.assert_allclose(nearest.values, 1, atol=1e-5)
    assert len(nearest.indices.unique()) == 20


# --- columns ----------------------------------------------------------------------------------------------------------


def worded(n: int = 60, **kwargs) -> TensorSource:
    """Rows with a number and a word each."""
    rows = torch.randn(n, 5, generator=torch.Generator().manual_seed(2))
    columns = {"token_id": torch.arange(n) % 7, "word": ["abc"[i % 3] for i in range(n)], **kwargs}
    return TensorSource(rows, columns=columns, label="worded")


@pytest.mark.parametrize("control", ALL)
def test_a_control_of_as_many_rows_has_the_columns_of_its_source(control):
    source = worded()
    assert control().of(source).columns == source.columns
    assert control().of(TensorSource(source.rows)).columns == {}


@pytest.mark.parametrize("control", [*UNIT, MatchedGaussian])
def test_a_control_of_another_number_of_rows_has_no_columns(control):
    source = worded()
    assert control(num_samples=59).of(source).columns == {}
    assert control(num_samples=60).of(source).columns == source.columns
    if control in UNIT:
        assert control(d_model=5, num_samples=60).source.columns == {}


@pytest.mark.parametrize("control", [*UNIT, MatchedGaussian, Shuffled])
def test_fresh_rows_have_no_values_that_could_be_left_out(control):
    stream = control(stream=True).of(worded()).stream
    assert stream.values("token_id") is None
    without = stream.without("token_id", torch.tensor([3]))
    assert torch.equal(without.batch(0, 1, 8, 0, 1), stream.batch(0, 1, 8, 0, 1))
    for ask in (lambda: stream.without("document", torch.tensor([3])), lambda: stream.values("document")):
        with pytest.raises(ValueError, match=r"column is 'document', but .* has no such column.*token_id, word"):
            ask()


# --- repeated noise ---------------------------------------------------------------------------------------------------


def classes(rows: torch.Tensor) -> torch.Tensor:
    return distinct_rows(rows)


def test_rows_are_alike_where_their_tokens_are_and_nowhere_else():
    source = worded()
    for columns in (source.columns, {"token_id": source.columns["token_id"] - 1000}):
        rows = RepeatedGaussian().of(TensorSource(source.rows, columns=columns)).rows
        assert torch.equal(classes(rows), torch.arange(60) % 7)


def test_another_column_may_say_which_rows_are_alike():
    control = RepeatedGaussian(by="word")
    assert control.label == control.of(worded()).label == "RepeatedGaussian by word"
    assert torch.equal(classes(control.of(worded()).rows), torch.arange(60) % 3)


def test_without_tokens_rows_are_alike_where_those_of_the_source_are():
    table = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    which = torch.randint(9, (200,), generator=torch.Generator().manual_seed(1))
    source = TensorSource(table[which], columns={"word": ["a"] * 200})
    rows = RepeatedGaussian().of(source).rows
    assert torch.equal(classes(rows), classes(source.rows))
    assert len(rows.unique(dim=0)) == 9


def test_each_token_weighs_the_same_in_the_moments(source):
    counts = torch.arange(1, 201)
    token = torch.repeat_interleave(torch.arange(200), counts)
    repeated = TensorSource(source.rows[:200][token], columns={"token_id": token})
    once = TensorSource(source.rows[:200])
    torch.testing.assert_close(RepeatedGaussian().of(repeated).moments, MatchedGaussian().of(once).moments)


def test_the_vectors_have_the_moments_of_the_rows_where_tokens_are_equally_frequent(source, covariance):
    repeated = TensorSource(source.rows, columns={"token_id": torch.arange(N) // 2})
    made = RepeatedGaussian().of(repeated)
    mean, root = MatchedGaussian().of(source).moments
    fewer = ((N - 1) / N * (N / 2) / (N / 2 - 1)) ** 0.5  # of a sample of half as many
    torch.testing.assert_close(made.moments, (mean, fewer * root))
    vectors = made.rows[::2]
    assert torch.equal(made.rows[1::2], vectors)
    expected = covariance(source.rows)
    deviation = expected.diag().sqrt()
    error = (vectors.double().mean(0) - source.rows.double().mean(0)) / deviation
    np.testing.assert_allclose(error, 0, atol=5 / (N / 2) ** 0.5)
    error = (covariance(vectors) - expected) / deviation / deviation[:, None]
    np.testing.assert_allclose(error, 0, atol=5 * (4 / N) ** 0.5)


def test_its_stream_gives_the_vectors_of_tokens_as_often_as_they_stand_in_the_data():
    counts = torch.tensor([1, 2, 4, 8, 16])
    token = torch.repeat_interleave(torch.tensor([10, 20, 30, 40, 50]), counts)
    source = TensorSource(torch.randn(31, 3), columns={"token_id": token})
    made = RepeatedGaussian(stream=True).of(source)
    vectors = made.rows[counts.cumsum(0) - 1]
    drawn = made.stream.batch(0, 0, 20_000, 0, 1)
    which = (drawn[:, None] == vectors).all(2)
    assert which.any(1).all()
    np.testing.assert_allclose(which.double().mean(0), counts / 31, atol=5 * (0.25 / 20_000) ** 0.5)
    assert made.stream.values("token_id").tolist() == [10, 20, 30, 40, 50]


def test_its_stream_leaves_out_tokens():
    source = worded()
    made = RepeatedGaussian(stream=True).of(source)
    stream = made.stream.without("token_id", torch.tensor([0, 5, 99])).without("token_id", torch.tensor([1]))
    assert stream.values("token_id").tolist() == [2, 3, 4, 6]
    drawn = torch.cat([stream.batch(0, 3, 300, 0, 1), stream.sample(300, torch.Generator().manual_seed(0))])
    found = (drawn[:, None] == made.rows[:7]).all(2)
    assert found.any(0).tolist() == [False, False, True, True, True, False, True]
    assert found.any(1).all()
    shares = [stream.batch(1, 2, 8, rank, 2) for rank in range(2)]
    assert torch.equal(torch.stack(shares, 1).flatten(0, 1), stream.batch(1, 2, 8, 0, 1))
    with pytest.raises(ValueError, match="every value of column 'token_id', so no row is left"):
        stream.without("token_id", torch.arange(7))
    assert stream.values("word") == ["a", "b", "c"]
    only = stream.without("word", ["a", "b", "nowhere"])
    assert only.values("word") == ["c"]
    assert only.values("token_id").tolist() == [2, 3, 4, 6]


def many(n: int = 600) -> TensorSource:
    """Rows of forty words and numbers, in thirty chapters."""
    random = torch.Generator().manual_seed(4)
    token = torch.randint(40, (n,), generator=random)
    chapter = torch.arange(n) // 20
    words = {"word": [f"w{number}" for number in token.tolist()], "chapter": [f"c{one}" for one in chapter.tolist()]}
    return TensorSource(torch.randn(n, 3, generator=random), columns={"token_id": token, "number": chapter, **words})


@pytest.mark.parametrize("control", ALL)
@pytest.mark.parametrize("names", [("number", "token_id"), ("chapter", "word")])
def test_controls_stream_where_columns_of_any_kind_decide_the_split(control, names):
    heldout_by, unseen_by = names
    data = SourceActivations(many(), heldout_by=heldout_by, unseen_by=unseen_by, unseen_split=0.1, batch_size=64)
    fresh = data.over(control(stream=True).of(data.source), control=True)
    fresh.setup()
    assert fresh.train_batch(0, 0).shape == (64, 3)


@pytest.mark.parametrize("names", [("number", "token_id"), ("chapter", "word")])
def test_repeated_vectors_of_held_out_rows_are_not_streamed(names):
    heldout_by, unseen_by = names
    source = many()
    data = SourceActivations(source, heldout_by=heldout_by, unseen_by=unseen_by, unseen_split=0.1, batch_size=500)
    vectors = RepeatedGaussian(by="number", stream=True)  # one for each chapter
    fresh = data.over(vectors.of(data.source), control=True)
    fresh.setup()
    assert {"heldout", "unseen"} & fresh.row_sets.keys()
    trained = {tuple(row) for row in fresh.train_batch(0, 0).tolist()}
    assert trained == {tuple(row) for row in fresh.rows[fresh.train_index].tolist()}


@pytest.mark.parametrize(
    ("by", "columns", "message"),
    [
        (
            "document",
            {"token_id": torch.arange(3)},
            "by is 'document', but .* no such column: give one of token_id, or",
        ),
        ("document", {}, "by is 'document', but .* no such column: it has none: leave it out"),
        ("word", {"word": ["a", "a", "a"]}, "by is 'word', and all 3 rows of .* have the same value there"),
        (None, {"token_id": torch.ones(3)}, "by is 'token_id', and all 3 rows .*: give another column"),
    ],
)
def test_a_column_that_cannot_say_it_is_refused_at_once(by, columns, message):
    with pytest.raises(ValueError, match=message):
        RepeatedGaussian(by=by).of(TensorSource(torch.randn(3, 2), columns=columns))


def test_repeated_noise_scores_like_its_control(quiet_trainer):
    """Noise repeated by Zipf's law looks sparse on training rows, and its control as much."""
    random = torch.Generator().manual_seed(0)
    token = torch.multinomial(1 / torch.arange(1.0, 801), 4000, replacement=True, generator=random)
    rows = torch.randn(800, 16, generator=random)[token]
    source = TensorSource(rows, columns={"token_id": token})

    def score(source: Source) -> float:
        data = TensorActivations(source.rows[:], batch_size=512, batches_per_round=40, val_split=0)
        module = SparseCodingModule(d_model=16, num_atoms=96, lam=0.4, scale=True)
        quiet_trainer(max_epochs=1).fit(module, data)
        return module.scores["train/S1"]

    noise, repeated, matched = (score(x) for x in (source, RepeatedGaussian().of(source), MatchedGaussian().of(source)))
    assert repeated == pytest.approx(noise, rel=0.1)
    assert matched > 1.5 * noise

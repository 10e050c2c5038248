import numpy as np
import pytest
import torch
from sparsecode_synthetic import SparseLinear

from sparsecode_pl import Dictionary, SparseCodingModule
from sparsecode_pl.analysis import collect
from sparsecode_pl.analysis.features import find_features
from sparsecode_pl.coding import LassoCoder
from sparsecode_pl.data import SourceActivations, TensorActivations, TensorSource, generator

N, D, M, CONTEXT = 300, 6, 12, 3


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Codes come in many blocks, whose borders are within documents."""
    monkeypatch.setattr(collect, "_BLOCK", 37)


@pytest.fixture
def dictionary():
    made = Dictionary.random(M, D, generator(1))
    made.lam = 0.4
    return made


@pytest.fixture
def data():
    """Rows of documents of 11 tokens each; of each, the token at position 4 is no row."""
    place = torch.arange(N)
    document, within = place // 10, place % 10
    position = within + (within >= 4)
    columns = {"token_id": (place * 7) % 23, "document": document, "position": position, "document_position": position}
    x = torch.randn(N, D, generator=generator(0))
    return SourceActivations(TensorSource(x, "text", columns=columns), unseen_split=0, val_split=0.2, batch_size=16)


@pytest.fixture
def dense(dictionary, data):
    """All codes, (n, m)."""
    return dictionary.encode(data.rows[:]).to_dense().detach().numpy()


def _heldout(data):
    mask = np.zeros(N, bool)
    mask[data.heldout_index.numpy()] = True
    return mask


def test_counts_are_those_of_the_dense_codes_of_held_out_rows(dictionary, data, dense):
    features = find_features(dictionary, data)
    codes = dense[_heldout(data)]
    assert features.rows == "held-out rows"
    assert features.num_rows == len(codes) == 60
    assert features.count.tolist() == (codes > 0).sum(0).tolist()
    np.testing.assert_allclose(features.largest, codes.max(0), rtol=1e-6)
    np.testing.assert_allclose(features.mean, codes.sum(0) / np.maximum((codes > 0).sum(0), 1), rtol=1e-5)
    for atom in features:
        assert sum(atom.histogram) == atom.count
        assert atom.frequency == atom.count / 60
        own = codes[codes[:, atom.index] > 0, atom.index]  # the end bins hold what is beyond the edges
        bins = np.histogram(np.clip(own, features.edges[0], features.edges[-1]), features.edges)[0]
        assert atom.histogram == tuple(bins.tolist())


def test_top_examples_are_the_largest_coefficients_and_held_out(dictionary, data, dense):
    masked = np.where(_heldout(data)[:, None], dense, 0)
    for atom in find_features(dictionary, data, examples=5):
        best = sorted(((-value, row) for row, value in enumerate(masked[:, atom.index]) if value > 0))[:5]
        assert [example.row for example in atom.top] == [row for _, row in best]
        assert all(example.trained is False for example in atom.top)


def test_all_rows_are_looked_at_when_asked_for_and_those_trained_on_are_marked(dictionary, data, dense):
    features = find_features(dictionary, data, rows="all", examples=N)
    assert features.num_rows == N
    for atom in features:
        assert {example.row for example in atom.top} == set(np.flatnonzero(dense[:, atom.index]).tolist())
        assert all(example.trained == (not _heldout(data)[example.row]) for example in atom.top)


def test_the_text_around_an_example_has_the_coefficients_of_the_rows_there(dictionary, data, dense):
    tokens = data.source.columns["token_id"].numpy()
    for atom in find_features(dictionary, data, context=CONTEXT):
        for example in atom.top:
            start = example.row // 10 * 10
            rows = range(max(example.row - CONTEXT, start), min(example.row + CONTEXT + 1, start + 10))
            assert [token.text for token in example.tokens] == [f"#{tokens[row]}" for row in rows]
            np.testing.assert_allclose([token.value for token in example.tokens], dense[rows, atom.index], rtol=1e-5)
            assert rows[example.place] == example.row
            assert example.document == example.row // 10
            gaps = [row for row, token in zip(rows, example.tokens, strict=True) if token.after_gap]
            assert gaps == [row for row in rows[1:] if row % 10 == 4]


def test_weaker_examples_are_from_their_bands_and_not_among_the_top(dictionary, data, dense):
    for atom in find_features(dictionary, data, rows="all", examples=4, per_band=3):
        active = np.sort(dense[dense[:, atom.index] > 0, atom.index])
        top = {example.row for example in atom.top}
        assert 2 <= len(atom.bands) <= 4
        for band in atom.bands:
            assert 1 <= len(band.examples) <= 3
            values = [example.value for example in band.examples]
            assert values == sorted(values, reverse=True)
            for example in band.examples:
                assert example.row not in top
                true = np.searchsorted(active, example.value) / len(active)
                assert band.low <= example.quantile < band.high
                assert abs(true - example.quantile) < 0.3  # estimated from 18 activations


def test_exact_coefficients_stand_beside_greedy_ones(dictionary, data):
    exact = dictionary.encode(data.rows[:], coder=LassoCoder()).to_dense().detach().numpy()
    for atom in find_features(dictionary, data, exact_examples=2):
        for example in atom.top[:2]:
            assert example.exact == pytest.approx(float(exact[example.row, atom.index]), abs=2e-3)
        assert all(example.exact is None for example in atom.top[2:])


def test_exact_codes_need_no_others_beside_them(dictionary, data):
    dictionary.coder = LassoCoder()
    assert all(example.exact is None for atom in find_features(dictionary, data) for example in atom.top)


def test_stability_is_told_where_there_are_other_dictionaries(dictionary, data):
    features = find_features(dictionary, data, others=[dictionary, dictionary])
    np.testing.assert_allclose(features.stability, 1, atol=1e-6)
    assert 0.3 < features.stability_chance < 1
    assert find_features(dictionary, data).atom(0).stability is None


def test_purity_is_one_for_one_hot_data():
    token = torch.arange(400) % 8
    x = torch.eye(8)[token] * (1 + torch.rand(400, 1, generator=generator(0)))
    data = TensorActivations(x, columns={"token_id": token}, val_split=0)
    features = find_features(Dictionary(torch.eye(8), lam=0.2), data)
    assert features.rows == "all rows"
    for atom in features:
        assert (atom.purity, atom.purity_bound, atom.token) == (1, 1, f"#{atom.index}")
        assert {example.row % 8 for example in atom.top} == {atom.index}


def test_a_learnt_atom_lists_samples_that_have_its_planted_feature(trainer_for):
    data = SparseLinear(d_model=48, num_features=64, active=2, num_samples=4000, noise=0.05, batches_per_round=60)
    module = SparseCodingModule(48, num_atoms=80)
    trainer_for(module, rounds=4).fit(module, datamodule=data)
    truth = data.source.ground_truth
    cosine, match = (truth.features @ module.dictionary.atoms.detach().T).max(1)
    found = (cosine > 0.98).nonzero().flatten().tolist()
    assert len(found) >= 55
    has = truth.codes.to_dense() > 0
    features = find_features(module.dictionary, data, rows="all")
    for feature in found:
        atom = features.atom(int(match[feature]))
        assert len(atom.top) == 20
        assert all(has[example.row, feature] for example in atom.top)


def test_rows_without_text_give_features_without_contexts(dictionary):
    data = TensorActivations(torch.randn(100, D, generator=generator(3)))
    features = find_features(dictionary, data)
    assert not features.has_text
    atom = features.atom(0)
    assert atom.token is None
    assert atom.purity is None
    assert all(example.tokens == () for example in atom.top)


def test_rows_of_a_stream_were_not_trained_on():
    data = SparseLinear(d_model=D, num_features=8, active=1.5, num_samples=60, stream=True)
    features = find_features(Dictionary(torch.eye(D), lam=0.1), data)
    assert features.rows == "all rows"
    assert not any(example.trained for atom in features for example in atom.top)


def test_without_any_but_training_rows_all_are_looked_at(dictionary, data):
    class OnlyTrained(TensorActivations):
        """Rows some of which are for nothing, as copies of training rows are."""

        @property
        def row_sets(self):
            return {"train": torch.arange(50)}

    found = find_features(dictionary, OnlyTrained(data.rows[:]))
    assert (found.rows, found.num_rows) == ("all rows", N)


def test_an_atom_that_is_never_active_has_nothing_to_show():
    data = TensorActivations(torch.eye(3).repeat(10, 1), columns={"token_id": torch.arange(30) % 3}, val_split=0)
    atoms = torch.cat([torch.eye(3), -torch.ones(1, 3) / 3**0.5])
    atom = find_features(Dictionary(atoms, lam=0.1), data).atom(3)
    assert (atom.count, atom.mean, atom.largest, atom.top, atom.bands, atom.token) == (0, 0, 0, (), (), None)


def test_wrong_arguments_are_refused(dictionary, data):
    for name in ("examples", "per_band", "context", "exact_examples"):
        with pytest.raises(ValueError, match=f"{name} is -1"):
            find_features(dictionary, data, **{name: -1})
    with pytest.raises(ValueError, match="rows is 'some'"):
        find_features(dictionary, data, rows="some")
    with pytest.raises(ValueError, match=r"width 5.*width 6"):
        find_features(Dictionary(torch.eye(5), lam=1.0), data)
    with pytest.raises(ValueError, match="others has a dictionary of width 5"):
        find_features(dictionary, data, others=[Dictionary(torch.eye(5))])
    with pytest.raises(ValueError, match="index is 12: give the number of an atom, 0 to 11"):
        find_features(dictionary, data).atom(M)

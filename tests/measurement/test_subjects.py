import pytest
import torch
from sparsecode_control import Gaussian, MatchedGaussian, RandomDictionary

from sparsecode_pl.data import ActivationDataModule, Control, SampledSource, TensorActivations, TensorSource
from sparsecode_pl.measurement.subjects import prepare
from sparsecode_pl.module import SparseCodingModule


def test_controls_are_made_from_the_data_and_loaded_like_it(make_data):
    data, other = make_data(batch_size=100, val_split=0.3), make_data(seed=9, num_samples=300)
    controls = [Gaussian(batch_size=7, batches_per_round=1), MatchedGaussian(num_samples=200), other]
    measured, *held_against = prepare(SparseCodingModule(16, expansion=2, lam=0.1), data, controls)
    assert measured.data is data
    assert [subject.control_of for subject in held_against] == [0, 0, 0]
    assert [len(subject.data.rows) for subject in held_against] == [500, 200, 300]
    for subject in held_against:
        assert (subject.data.batch_size, subject.data.batches_per_round, subject.data.val_split) == (100, 6, 0.3)
    assert held_against[2].data.source is other.source
    assert controls[0].d_model == 256  # it is as it was, and can be a control of other data next


def test_what_a_fit_has_drawn_is_let_go_of(run, make_data):
    data = make_data()
    run(SparseCodingModule(16, expansion=2, lam=0.1), data)
    assert data.trainer is None
    assert data.source._rows is None


class OldControl(Control):
    """Returns a data module, as controls did once."""

    def of(self, source):
        return TensorActivations(source.rows[:])


def test_a_control_of_an_earlier_form_is_shown_the_new_one(run, make_data, no_fit):
    with pytest.raises(
        TypeError, match=r"(?s)OldControl.of returned TensorActivations.*def of\(self, source: Source\)"
    ):
        run(SparseCodingModule(16), make_data(), OldControl())
    with pytest.raises(TypeError, match="controls contain a int: give a Control, or data of the same width"):
        run(SparseCodingModule(16), make_data(), 3)


def test_the_module_that_a_control_changes_has_its_settings(make_data):
    given = SparseCodingModule(16, expansion=2)
    plain, changed = prepare(given, make_data(), [RandomDictionary()])
    assert plain.module is given
    assert (changed.module.learn, changed.module.init, changed.module.dictionary.shape) == (False, "random", (32, 16))
    assert changed.data.source is plain.data.source


def test_controls_stream_as_the_data_does_unless_told_otherwise(make_data):
    controls = [Gaussian(), Gaussian(stream=False)]
    _, follows, stays = prepare(SparseCodingModule(16, expansion=2), make_data(stream=True), controls)
    assert (follows.data.stream, stays.data.stream) == (True, False)


def test_layers_and_their_controls_are_loaded_like_the_data(layered):
    data = layered((8, 12), val_split=0.25, seed=3)
    subjects = prepare(SparseCodingModule(8, expansion=2), data, [MatchedGaussian()])
    assert [subject.title for subject in subjects] == [
        "toy layer 0",
        "toy layer 0, MatchedGaussian",
        "toy layer 1",
        "toy layer 1, MatchedGaussian",
    ]
    assert [subject.control_of for subject in subjects] == [None, 0, None, 2]
    assert [subject.data.source for subject in subjects[::2]] == data.sources()
    for subject in subjects:
        assert (subject.data.batch_size, subject.data.val_split, subject.data.seed) == (64, 0.25, 3)
        assert subject.data.train_index.equal(subjects[0].data.train_index)


def test_random_rows_are_not_drawn_before_their_fit(make_data):
    subjects = prepare(SparseCodingModule(16, expansion=2), make_data(), [Gaussian(), MatchedGaussian()])
    assert all(isinstance(subject.data.source, SampledSource) for subject in subjects)
    assert [subject.data.source._rows is None for subject in subjects] == [False, True, True]


def test_data_of_one_layer_is_loaded_as_its_plugin_does(layered):
    class Doubled(TensorActivations):
        def rank_batch(self, epoch, index):
            return 2 * super().rank_batch(epoch, index)

    data = Doubled(layered((8,)).rows)
    measured, control = prepare(SparseCodingModule(8, expansion=2), data, [RandomDictionary()])
    assert measured.data is control.data is data


class Words(ActivationDataModule):
    """Rows of words in documents, under a label of the plugin's own."""

    @property
    def label(self):
        return "words"

    def sources(self):
        random = torch.Generator().manual_seed(0)
        columns = {"token_id": torch.arange(600) % 60, "document": torch.arange(600) // 20}
        return [TensorSource(torch.randn(600, 16, generator=random), "words", columns=columns)]


def test_data_tells_what_is_removed_and_its_controls_are_made_of_what_is_left():
    data = Words(remove="token_mean")
    measured, held_against = prepare(SparseCodingModule(16, expansion=2, lam=0.1), data, [MatchedGaussian()])
    assert measured.label == measured.title == "words without token means"
    assert len(held_against.data.rows) == len(data.rows) < 600


def test_data_of_the_same_name_are_told_apart_by_their_rows(make_data):
    given = [make_data(), make_data(num_samples=1200), make_data(num_samples=1200, seed=1), make_data(active=2)]
    subjects = prepare(SparseCodingModule(16, expansion=2), given)
    names = ["SparseLinear a=1.5, 500 rows", "SparseLinear a=1.5, 1,200 rows", "SparseLinear a=1.5, 1,200 rows (2)"]
    assert [subject.label for subject in subjects] == [*names, "SparseLinear a=2"]

"""What replacing activations costs a model, beside a plain loop over documents."""

import contextlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sparsecode_transformer import TransformerActivations
from torch.nn.functional import cross_entropy

from sparsecode_pl import Dictionary
from sparsecode_pl.analysis.loss import (
    LossReport,
    LossSums,
    codec_arm,
    codec_loss,
    component_arm,
    constant_arm,
    control_arms,
    heldout_documents,
    model_loss,
    random_dictionary,
)
from sparsecode_pl.analysis.loss.arms import mean_nonzero, principal_components
from sparsecode_pl.analysis.loss.recaptured import _pairs
from sparsecode_pl.coding import LassoCoder
from sparsecode_pl.data import Passage, SourceActivations, TensorActivations, TensorSource, generator

V, D, BOS = 30, 12, 0


class TwoLayers:
    """A model of two layers, token by token, and documents that it wrote itself, each after a BOS."""

    kind = "causal"

    def __init__(self, lengths: list[int], per_batch: int = 4, seed: int = 0) -> None:
        random = generator(seed)
        self.embeddings = torch.randn(V, D, generator=random)
        self.first, self.second = (torch.randn(D, D, generator=random) / 2 for _ in range(2))
        self.head = torch.randn(V, D, generator=random)
        self.documents = [self._written(length, random) for length in lengths]
        self.per_batch = per_batch
        self.passes = 0

    def _written(self, length: int, random: torch.Generator) -> torch.Tensor:
        tokens = torch.tensor([BOS])
        while len(tokens) < length + 1:
            odds = self.run(tokens[-1:]).softmax(-1)
            odds[:, BOS] = 0
            tokens = torch.cat([tokens, torch.multinomial(odds[0], 1, generator=random)])
        return tokens

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.embeddings[tokens] @ self.first)

    def run(self, tokens: torch.Tensor, change=lambda x: x) -> torch.Tensor:
        return torch.tanh(change(self.hidden(tokens)) @ self.second) @ self.head.T

    def check(self) -> None:
        pass

    def passages(self, documents):
        wanted = documents.tolist()
        for start in range(0, len(wanted), self.per_batch):
            numbers = wanted[start : start + self.per_batch]
            longest = max(len(self.documents[number]) for number in numbers)
            ids = torch.stack(
                [torch.nn.functional.pad(self.documents[i], (0, longest - len(self.documents[i]))) for i in numbers]
            )
            mask = torch.stack([(torch.arange(longest) < len(self.documents[i])).long() for i in numbers])
            counts = mask.bool() & (torch.arange(longest) > 0)
            judged = torch.cat([counts[:, 1:], torch.zeros(len(ids), 1, dtype=torch.bool)], dim=1)
            document = torch.tensor(numbers)[:, None].expand_as(ids)
            yield Passage(ids, mask, counts, judged, document)

    def __call__(self, passage, replace=None):
        self.passes += 1

        def change(states):
            if replace is not None:
                states = states.clone()
                states[passage.replaced] = replace(states[passage.replaced])
            return states

        return self.run(passage.input_ids, change)


class TwoLayerEncoder(TwoLayers):
    """The same as an encoder: its output is what the head would read."""

    kind = "encoder"

    def __call__(self, passage, replace=None):
        head, self.head = self.head, torch.eye(D)
        output = super().__call__(passage, replace)
        self.head = head
        return output

    def passages(self, documents):
        for passage in super().passages(documents):
            yield Passage(
                *(passage.input_ids, passage.attention_mask, passage.replaced, passage.replaced, passage.document)
            )


@pytest.fixture(scope="module")
def model() -> TwoLayers:
    return TwoLayers([3 + 7 * (number % 5) for number in range(40)])


@pytest.fixture(scope="module")
def rows(model) -> torch.Tensor:
    return torch.cat([model.hidden(document[1:]) for document in model.documents])


ALL = torch.arange(40)


@pytest.fixture(scope="module")
def arms(rows):
    return {
        "identity": lambda x: x,
        "halves": lambda x: x / 2,
        "mean": constant_arm(rows.mean(0)),
        "zero": torch.zeros_like,
    }


@pytest.fixture(scope="module")
def report(model, arms) -> LossReport:
    return model_loss(model, arms, ALL)


def plain(model: TwoLayers, replace) -> tuple[float, float]:
    """Cross-entropy and KL per token by a loop over documents, one position at a time."""
    total = divergence = tokens = 0.0
    for document in model.documents:
        for place in range(len(document) - 1):
            change = replace if place > 0 else lambda x: x  # BOS stays as it is
            logits = model.run(document[place : place + 1], change).double()
            clean = model.run(document[place : place + 1]).double()
            total += float(cross_entropy(logits, document[place + 1 : place + 2]))
            divergence += float((clean.softmax(-1) * (clean.log_softmax(-1) - logits.log_softmax(-1))).sum())
            tokens += 1
    return total / tokens, divergence / tokens


def test_the_identity_recovers_all_and_the_ablations_nothing(report):
    assert report.arms["identity"] == report.arms["clean"]
    assert report.arms["clean"]["kl"] == 0
    assert report.arms["clean"]["recovered"] == report.arms["clean"]["zero_recovered"] == 1
    assert report.arms["mean"]["recovered"] == report.arms["zero"]["zero_recovered"] == 0
    assert report.intervals["identity"]["recovered"] == (1, 1)
    assert report.intervals["mean"]["recovered"] == (0, 0)


def test_the_figures_are_those_of_a_plain_loop(model, arms, report):
    loss = {}
    for name, replace in arms.items():
        loss[name], divergence = plain(model, replace)
        assert report.arms[name]["cross_entropy"] == pytest.approx(loss[name], abs=1e-5)
        assert report.arms[name]["kl"] == pytest.approx(divergence, abs=1e-5)
    for ablation, name in (("mean", "recovered"), ("zero", "zero_recovered")):
        expected = (loss[ablation] - loss["halves"]) / (loss[ablation] - loss["identity"])
        assert report.arms["halves"][name] == pytest.approx(expected, abs=1e-5)
        assert 0 < expected < 1
    assert report.tokens == sum(len(document) - 1 for document in model.documents)
    assert (report.documents, report.kind) == (40, "causal")


def test_batches_and_padding_make_no_difference(arms, report):
    alone = model_loss(
        TwoLayers([len(d) - 1 for d in TwoLayers([3 + 7 * (n % 5) for n in range(40)]).documents], 1), arms, ALL
    )
    for arm, figures in report.arms.items():
        assert alone.arms[arm] == pytest.approx(figures, abs=1e-6)
        for name, ends in report.intervals[arm].items():
            assert alone.intervals[arm][name] == pytest.approx(ends, abs=1e-5)


def test_each_batch_goes_through_the_model_once_as_it_is_and_once_for_each_arm(arms):
    model = TwoLayers([5] * 12)
    model_loss(model, {name: arms[name] for name in ("halves", "mean")}, torch.arange(12))
    assert model.passes == 3 * 3


def test_large_vocabularies_are_worked_on_in_parts(model, arms, report, monkeypatch):
    monkeypatch.setattr("sparsecode_pl.analysis.loss.output._CHUNK", 2 * V)
    assert model_loss(model, arms, ALL).arms["halves"] == pytest.approx(report.arms["halves"], abs=1e-6)


def test_of_an_encoder_it_is_the_cosine_of_the_output(arms):
    model = TwoLayerEncoder([4, 9, 6])
    report = model_loss(model, arms, torch.arange(3))
    model.head = torch.eye(D)
    cosines = {name: [] for name in arms}
    for document in model.documents:
        clean = model.run(document[1:])
        for name, replace in arms.items():
            cosines[name] += torch.cosine_similarity(model.run(document[1:], replace), clean).tolist()
    for name, each in cosines.items():
        assert report.arms[name]["cosine"] == pytest.approx(np.mean(each), abs=1e-6)
    expected = 1 - (1 - np.mean(cosines["halves"])) / (1 - np.mean(cosines["mean"]))
    assert report.arms["halves"]["recovered"] == pytest.approx(expected, abs=1e-6)
    assert report.arms["identity"]["recovered"] == pytest.approx(1)
    assert "cross_entropy" not in report.arms["clean"]


def test_intervals_are_the_same_again_and_narrower_over_more_documents(arms):
    texts = {number: TwoLayers([20] * number) for number in (20, 320)}
    found = {number: model_loss(model, arms, torch.arange(number)) for number, model in texts.items()}
    again = model_loss(texts[20], arms, torch.arange(20))
    assert again.intervals == found[20].intervals
    width = {number: np.diff(each.intervals["halves"]["recovered"])[0] for number, each in found.items()}
    assert 2 < width[20] / width[320] < 8  # about 4


def test_intervals_cover_as_often_as_they_say():
    random, covered = np.random.default_rng(0), 0
    for _ in range(300):
        tokens = random.integers(5, 50, 30).astype(float)
        hard = random.normal(3, 1, 30)  # documents differ in how hard they are
        own = {"clean": 0.0, "dictionary": 0.5, "mean": 2.0, "zero": 4.0}
        noise = {name: (name != "clean") * random.normal(0, 0.3, 30) for name in own}
        sums = {name: np.stack([tokens * (hard + cost + noise[name]), tokens], axis=1) for name, cost in own.items()}
        low, high = LossReport.of(LossSums("causal", tokens, sums), 30, True).intervals["dictionary"]["recovered"]
        covered += low <= 0.75 <= high
    assert covered / 300 == pytest.approx(0.95, abs=0.04)


@pytest.mark.filterwarnings("error")
def test_where_an_ablation_costs_nothing_the_share_recovered_is_nan(model):
    with pytest.warns(UserWarning, match="their mean costs the model nothing that can be told from chance"):
        report = model_loss(model, {"half": lambda x: x / 2, "mean": lambda x: x}, ALL)
    assert math.isnan(report.arms["half"]["recovered"])
    assert all(math.isnan(end) for end in report.intervals["half"]["recovered"])
    assert report.arms["half"]["cross_entropy"] > 0
    assert report.plain()["arms"]["half"]["recovered"] is None


def test_a_cost_that_chance_can_make_is_none():
    random, tokens = np.random.default_rng(0), np.full(30, 10.0)
    clean, noise = random.normal(3, 1, 30), random.normal(0.001, 1, 30)  # a model with random weights
    cost = noise - noise.mean() + 0.001
    sums = {"clean": clean, "dictionary": clean + 0.1, "mean": clean + cost}
    whole = LossSums("causal", tokens, {name: np.stack([10 * each, tokens], axis=1) for name, each in sums.items()})
    assert math.isnan(LossReport.of(whole, 30, True).arms["dictionary"]["recovered"])


def test_sums_are_stacked_and_taken_apart(report):
    names = ["clean", "halves", "mean"]
    again = LossSums.unstack(report.sums.stack(names), names)
    assert again.kind == "causal"
    for name in names:
        np.testing.assert_array_equal(again.arms[name], report.sums.arms[name])


@pytest.mark.parametrize("processes", [2, 3, 50])  # some of the last have no document
def test_processes_that_share_the_documents_have_the_sums_of_one(model, arms, report, monkeypatch, processes):
    measure = sys.modules["sparsecode_pl.analysis.loss.measure"]
    monkeypatch.setattr(measure, "num_ranks", lambda: processes)
    shares = []

    def alone(share):
        shares.append(share)
        return [share] if len(shares) < processes else shares

    monkeypatch.setattr(measure, "from_all_ranks", alone)
    for number in range(processes):
        monkeypatch.setattr(measure, "rank", lambda number=number: number)
        with contextlib.suppress(ValueError):  # a process that alone has no document
            found = model_loss(model, arms, ALL)
    assert len(shares) == processes
    np.testing.assert_array_equal(found.sums.tokens, report.sums.tokens)
    for name, each in report.sums.arms.items():
        np.testing.assert_allclose(found.sums.arms[name], each, rtol=1e-5, atol=1e-5)
    assert found.arms["halves"] == pytest.approx(report.arms["halves"], abs=1e-5)


def test_what_is_known_is_not_run_again(model, arms, report):
    known = LossSums("causal", report.sums.tokens, {name: report.sums.arms[name] for name in ("mean", "zero")})
    before = model.passes
    again = model_loss(model, {"halves": arms["halves"]}, ALL, known=known)
    assert model.passes - before == 2 * 10  # as it is and halved, ten batches
    assert list(again.arms) == ["clean", "halves", "mean", "zero"]
    assert again.arms["halves"] == report.arms["halves"]
    assert again.intervals["halves"] == report.intervals["halves"]
    with pytest.raises(ValueError, match="known has sums of other documents, or with another seed"):
        model_loss(model, {}, ALL[:20], known=known)


def test_an_arm_may_not_have_the_name_of_the_model_as_it_is(model):
    with pytest.raises(ValueError, match="arms has 'clean'"):
        model_loss(model, {"clean": lambda x: x}, ALL)


def test_documents_of_one_token_leave_nothing_to_judge():
    with pytest.raises(ValueError, match="leave no prediction to judge"):
        model_loss(TwoLayers([0, 0]), {}, torch.arange(2))


# --- arms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n0", [0.5, 4.0, 11.0])
def test_the_random_dictionary_uses_as_many_atoms(rows, n0):
    dictionary = random_dictionary(48, rows, n0, rows.mean(0))
    assert mean_nonzero(dictionary, rows) == pytest.approx(n0, rel=0.03)
    assert torch.equal(dictionary.atoms, random_dictionary(48, rows, n0, rows.mean(0)).atoms)
    assert not torch.equal(dictionary.atoms, random_dictionary(48, rows, n0, rows.mean(0), seed=1).atoms)


def test_more_atoms_than_a_random_dictionary_can_use_are_told():
    x = torch.randn(100, 4, generator=generator(0))
    with pytest.warns(UserWarning, match="a random dictionary of 6 atoms uses at most"):
        random_dictionary(6, x, 6.0, torch.zeros(4))


def test_principal_components_are_those_of_the_singular_vectors(rows):
    index = torch.arange(0, len(rows), 2)
    mean = rows[index].mean(0)
    found = principal_components(rows, index, mean, 3, torch.device("cpu"))
    expected = torch.linalg.svd(rows[index] - mean, full_matrices=False).Vh[:3]
    torch.testing.assert_close((found @ expected.T).abs(), torch.eye(3), atol=1e-4, rtol=0)
    x = rows[:5]
    torch.testing.assert_close(component_arm(mean, found)(x), mean + (x - mean) @ expected.T @ expected)


def test_the_controls_have_the_codec_s_n0(rows):
    dictionary = Dictionary.random(48, D, generator(0), centre=rows.mean(0), lam=0.3)
    index = torch.arange(len(rows))
    controls, counts = control_arms(dictionary, rows, index, rows.mean(0), rows)
    n0 = mean_nonzero(dictionary, rows)
    assert list(counts.values()) == pytest.approx([n0, round(n0)], rel=0.03)
    assert list(controls) == ["random dictionary", f"{round(n0)} principal components", "mean", "zero"]
    assert torch.equal(controls["mean"](rows[:2]), rows.mean(0).expand(2, -1))
    assert torch.equal(controls["zero"](rows[:2]), torch.zeros(2, D))


def test_a_codec_reconstructs_at_the_penalty_given(rows):
    dictionary = Dictionary.random(48, D, generator(0), centre=rows.mean(0), lam=0.3)
    for lam in (None, 0.05):
        expected = dictionary.decode(dictionary.encode(rows, lam))
        torch.testing.assert_close(codec_arm(dictionary, lam)(rows), expected)


# --- codecs and data -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stories() -> str:
    """The folder of a small trained Llama."""
    folder = Path(__file__, "../../../../shared/data/stories260K").resolve()
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return str(folder)


@pytest.fixture(scope="module")
def real(stories) -> TransformerActivations:
    text = Path(stories, "../text/tinystories_1000.jsonl")
    data = TransformerActivations(stories, str(text), layers=3, num_activations=8000, val_split=0.3, device="cpu")
    data.setup()
    return data


@pytest.fixture(scope="module")
def learnt(real) -> Dictionary:
    """Atoms that are samples, at a penalty that suits."""
    mean = real.statistics.mean.float()
    dictionary = Dictionary.random(512, 64, generator(0), centre=mean, lam=0.05 * real.statistics.mean_norm)
    dictionary.start_from(real.sample(512, generator(1)))
    return dictionary


@pytest.fixture(scope="module")
def real_report(real, learnt) -> LossReport:
    return codec_loss(learnt, real, others={"exact codes": learnt.bind(LassoCoder(tol=1e-2))})


def test_of_a_real_model_every_arm_is_in_its_place(real_report):
    arms = real_report.arms
    assert list(arms)[:4] == ["clean", "dictionary", "exact codes", "random dictionary"]
    assert list(arms)[5:] == ["mean", "zero"]
    (components,) = [name for name in arms if "principal" in name]
    ladder = ["clean", "exact codes", "dictionary", components, "mean", "zero"]
    losses = [arms[name]["cross_entropy"] for name in ladder]
    assert losses == sorted(losses)
    assert arms["dictionary"]["recovered"] > arms["random dictionary"]["recovered"] > 0
    assert 1 < losses[0] < 2.5
    low, high = real_report.intervals["dictionary"]["recovered"]
    assert low < arms["dictionary"]["recovered"] < high < 1
    assert real_report.heldout
    assert real_report.plain()["arms"]["mean"]["recovered"] == 0


def test_the_documents_are_those_that_nothing_was_trained_on(real, real_report):
    documents, heldout = heldout_documents(real)
    assert heldout
    assert not torch.isin(documents, real.source.columns["document"][real.train_index].long()).any()
    assert len(documents) == real_report.documents


def test_without_held_out_documents_they_are_all(real, learnt):
    data = SourceActivations(real.source, val_split=0)
    report = codec_loss(learnt, data, controls=False)
    assert not report.heldout
    assert report.documents == len(real.source.columns["document"].unique())


def test_data_of_no_model_are_refused(learnt):
    data = TensorActivations(torch.randn(50, 64), name="noise")
    with pytest.raises(
        ValueError, match="loss is true, but noise is of no model that can be run again: leave loss out"
    ):
        codec_loss(learnt, data)


def test_a_codec_of_another_width_is_refused(real):
    with pytest.raises(ValueError, match="codec has width 32, but stories260K layer 3 has width 64"):
        codec_loss(Dictionary.random(8, 32, lam=1.0), real)


class Changed(TensorSource):
    """Rows of one text behind which a model reads another."""

    @property
    def rerun(self):
        return TwoLayers([4, 4, 4, 4])


class Rerun(TensorSource):
    """Rows of a text that the model of another source is run on."""

    def __init__(self, source, rows):
        super().__init__(rows, columns=source.columns)
        self.rerun_of = source

    @property
    def rerun(self):
        return self.rerun_of.rerun


def test_a_text_that_has_changed_since_the_rows_were_made_is_refused():
    texts = TwoLayers([4, 4, 4, 4]).documents
    document = torch.arange(4).repeat_interleave(4)
    token = torch.cat([text[1:] for text in texts])
    for changed in (False, True):
        if changed:
            token[5] = (token[5] % (V - 1)) + 1
            token[5] = next(t for t in range(1, V) if t not in texts[1])
        columns = {"document": document, "token_id": token}
        made = torch.cat([TwoLayers([4] * 4).hidden(text[1:]) for text in texts])
        data = SourceActivations(Changed(made, columns=columns), val_split=0, unseen_split=0)
        dictionary = Dictionary.random(20, D, generator(0), lam=0.3)
        if changed:
            with pytest.raises(ValueError, match="has changed: 1 of the tokens in the rows' documents are not there"):
                codec_loss(dictionary, data)
        else:
            assert codec_loss(dictionary, data, controls=False).documents == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_model_that_has_changed_since_the_rows_were_made_is_refused(real, learnt, dtype):
    stored = real.rows[:].to(dtype).float()
    dictionary = learnt
    for change in (0.0, 0.2):
        noise = change * stored.std() * torch.randn(stored.shape, generator=generator(3))
        made = Rerun(real.source, (stored + noise).to(dtype).float())
        data = SourceActivations(made, val_split=0.3)
        if change:
            with pytest.raises(
                ValueError, match=r"gives other activations now: half of [\d,]+ rows are \d.*The model has"
            ):
                codec_loss(dictionary, data, controls=False)
        else:
            assert codec_loss(dictionary, data, controls=False).tokens > 500


def test_recaptured_rows_are_paired_by_what_stands_once_in_both():
    one = torch.tensor([[0, 5], [0, 6], [1, 5], [0, 6], [2, 2]])
    other = torch.tensor([[2, 2], [0, 6], [1, 5], [1, 5], [0, 5], [9, 9]])
    mine, theirs = _pairs(one, other)
    assert mine.tolist() == [0, 4]
    assert theirs.tolist() == [4, 0]

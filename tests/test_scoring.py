import pytest
import torch
from torchmetrics import MeanMetric, SumMetric

from sparsecode_pl import Dictionary
from sparsecode_pl.coding import GreedyCoder, LassoCoder, greedy_encode, lasso_encode
from sparsecode_pl.measurement import ExactCodes
from sparsecode_pl.metrics import functional
from sparsecode_pl.scoring import SCORES, AtomUse, CodedBatch, Evaluation, LargestCoefficient, Scorer, Scores, score


class Counting(GreedyCoder):
    """Counts the rows that it codes at each penalty, over all of its copies."""

    def __init__(self):
        super().__init__()
        self.rows = {}

    def encode(self, x, lam, bound):
        self.rows[lam] = self.rows.get(lam, 0) + len(x)
        return super().encode(x, lam, bound)


@pytest.fixture
def x():
    return torch.randn(100, 6, generator=torch.Generator().manual_seed(0)) + 1


@pytest.fixture
def dictionary():
    atoms = Dictionary.random(20, 6, torch.Generator().manual_seed(1)).atoms
    return Dictionary(atoms, centre=torch.ones(6), scale=2.0, lam=0.2, coder=Counting())


def expected(dictionary, x, lam):
    """The paper's scores by plain arithmetic on dense codes."""
    x = ((x - 1) / 2).double()
    codes = greedy_encode(x, dictionary.atoms.detach().double(), lam).to_dense()
    residual = x - codes @ dictionary.atoms.detach().double()
    largest, loss = codes.amax(1).sum(), residual.square().sum() + lam * codes.sum()
    return {
        "S1": float(codes.sum() / largest),
        "L_norm": float(loss / (lam * largest)),
        "N0": float((codes > 0).double().sum(1).mean()),
        "L": float(loss / len(x)),
        "explained_variance": float(1 - residual.square().sum() / (x - x.mean(0)).square().sum()),
    }


def numbers(scores):
    return {name: float(value) for name, value in scores.items()}


def test_the_scores_are_the_papers(dictionary, x):
    found = score(dictionary, x)
    assert list(found) == list(SCORES)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        expected(dictionary, x, 0.2), rel=1e-5
    )


@pytest.mark.parametrize("sizes", [[100], [1, 99], [33, 33, 34]])
def test_batches_give_what_one_tensor_gives(dictionary, x, sizes):
    assert numbers(score(dictionary, x.split(sizes))) == pytest.approx(numbers(score(dictionary, x)), rel=1e-6)


def test_one_pass_serves_several_penalties_and_codes_each_row_once_for_each(dictionary, x):
    class At(Scores):
        def metrics(self, codec):
            return {f"{name}@{self.lam}": metric for name, metric in super().metrics(codec).items()}

    found = score(dictionary, x, [At(0.1), At(0.4), Scores(), AtomUse(), LargestCoefficient(0.4)])
    for lam, end in ((0.1, "@0.1"), (0.4, "@0.4"), (0.2, "")):
        values = {name: float(found[f"{name}{end}"]) for name in SCORES}
        assert values == pytest.approx(expected(dictionary, x, lam), rel=1e-5)
    assert found["atom_activity"].shape == (20,)
    assert dictionary.coder.rows == {0.1: 100, 0.2: 100, 0.4: 100}


def test_other_coders_of_the_same_dictionary(dictionary, x):
    exact = score(dictionary.bind(LassoCoder(tol=1e-6)), x)
    assert float(exact["L"]) < float(score(dictionary, x)["L"])


def test_exact_codes_are_those_of_the_exact_solver(dictionary, x):
    found = score(dictionary, x, [ExactCodes()])
    standardised = dictionary.standardise(x).double()
    codes, _, _ = lasso_encode(standardised, dictionary.atoms.detach().double(), 0.2, tol=1e-9)
    assert float(found["exact_S1"]) == pytest.approx(float(functional.average_coefficient_norm(codes)), rel=2e-3)
    assert 0 < float(found["exact_duality_gap"]) < 1e-4
    assert float(found["coding_gap"]) > 1e-3


class Norms(Evaluation):
    """An evaluation of somebody else's."""

    def __init__(self):
        self.finished = []

    def metrics(self, codec):
        return {"mean_norm": MeanMetric(), "rows": SumMetric()}

    def update(self, metrics, batch):
        metrics["mean_norm"].update(batch.rows.norm(dim=1))
        metrics["rows"].update(len(batch.rows))

    def finish(self, scores):
        self.finished.append(scores)


def test_an_evaluation_of_ones_own_is_one_class(dictionary, x):
    norms = Norms()
    found = score(dictionary, x.split(30), [norms])
    assert float(found["mean_norm"]) == pytest.approx(float(x.norm(dim=1).mean()), rel=1e-5)
    assert found["rows"] == 100
    assert norms.name == "Norms"
    assert norms.finished == [found]
    assert dictionary.coder.rows == {}  # nothing asked for codes


def test_two_values_of_one_name_are_refused(dictionary):
    with pytest.raises(ValueError, match=r"evaluation Scores gives .*S1, .* as another one does"):
        Scorer(dictionary, [Scores(), Scores(lam=0.1)])


def test_a_batch_is_coded_when_asked_and_once(dictionary, x):
    batch = CodedBatch(dictionary, x)
    assert dictionary.coder.rows == {}
    assert batch.at() is batch.at(0.2)
    assert dictionary.coder.rows == {0.2: 100}
    coded = batch.at()
    torch.testing.assert_close(coded.x, (x - 1) / 2)
    torch.testing.assert_close(coded.residual, coded.x - coded.codes.to_dense() @ dictionary.atoms.detach())


class Autoencoder:
    """The least that can be measured: an encoder of its own, which knows nothing of greedy steps."""

    lam, d_model, num_atoms = 0.5, 6, 6
    atoms = torch.eye(6)

    def bind(self):
        return self

    def standardise(self, x):
        return x

    def encode(self, x, lam=None):
        return (x - 0.1).relu().to_sparse_csr()

    def reconstruct(self, x, codes):
        return codes.to_dense()

    def residual(self, x, codes):
        return x - codes.to_dense()


def test_whatever_satisfies_the_protocol_can_be_scored(x):
    found = score(Autoencoder(), x, [Scores(), ExactCodes()])
    codes = (x - 0.1).relu()
    assert float(found["S1"]) == pytest.approx(float(codes.sum() / codes.amax(1).sum()), rel=1e-5)
    assert float(found["coding_gap"]) > 0

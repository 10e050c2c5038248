import math

import pytest
import torch

from sparsecode_pl.coding import GreedyCoder, MatchingPursuitCoder, reconstruct
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.measurement.penalty import largest_penalty
from sparsecode_pl.metrics.functional import explained_variance


def axes(width=4, size=3.0):
    """Rows of one norm along the axes, both ways, and the dictionary of their directions: residuals are lam / 2."""
    directions = torch.cat([torch.eye(width), -torch.eye(width)])
    return size * directions, Dictionary(directions)


def gaussian(rows=400, width=6, num_atoms=40, seed=0):
    """Rows without structure, off centre, and a random dictionary."""
    random = torch.Generator().manual_seed(seed)
    dictionary = Dictionary.random(num_atoms, width, random)
    x = torch.randn(rows, width, generator=random) + 2
    dictionary.centre.copy_(x.mean(0))
    return x, dictionary


def explained(x, dictionary, lam, coder=None):
    x = dictionary.standardise(x)
    codes = (coder or GreedyCoder())(x, dictionary.atoms.detach(), lam)
    return float(explained_variance((x - reconstruct(codes, dictionary.atoms)).detach(), x))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.98, 0.999])
@pytest.mark.parametrize("start", [1e-6, 0.3, 5.9, 1e9])
def test_with_orthogonal_atoms_the_answer_is_known_wherever_it_begins(share, start):
    x, dictionary = axes()
    lam, slope = largest_penalty(dictionary, x, share, start)
    assert lam == pytest.approx(2 * 3 * math.sqrt(1 - share), rel=0.01)
    assert slope == pytest.approx(2, rel=0.05)  # the unexplained share is (lam / 6)^2


def test_the_penalty_is_in_units_of_the_standardised_rows():
    x, dictionary = axes()
    dictionary.centre.fill_(7)
    dictionary.scale.fill_(10)
    lam, _ = largest_penalty(dictionary, 10 * x + 7, 0.96, 0.1)
    assert lam == pytest.approx(1.2, rel=0.01)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.6, 0.9, 0.98])
def test_the_share_is_reached_there_and_not_above(seed, share):
    x, dictionary = gaussian(seed=seed)
    lam, _ = largest_penalty(dictionary, x, share, start=0.1)
    assert explained(x, dictionary, 0.99 * lam) >= share
    assert explained(x, dictionary, 1.01 * lam) < share


def test_the_coder_of_the_dictionary_is_the_one_used():
    x, dictionary = gaussian(num_atoms=80)
    any_number, _ = largest_penalty(dictionary, x, 0.8, start=0.1)
    dictionary.coder = few = GreedyCoder(max_atoms=4)
    lam, _ = largest_penalty(dictionary, x, 0.8, start=0.1)
    assert explained(x, dictionary, 0.99 * lam, few) >= 0.8 > explained(x, dictionary, 1.01 * lam, few)
    assert lam < any_number


def test_what_all_rows_explain_corrects_for_the_sample():
    x, dictionary = axes()
    plain, _ = largest_penalty(dictionary, x, 0.9, start=1.2)  # where the rows leave 0.04
    lam, _ = largest_penalty(dictionary, x, 0.9, start=1.2, known=0.92)  # and all rows leave twice as much
    assert lam == pytest.approx(plain / math.sqrt(2), rel=0.01)


def test_a_coder_that_does_not_depend_on_the_penalty_is_refused():
    x, dictionary = axes()
    dictionary.coder = MatchingPursuitCoder(k=1)
    with pytest.raises(ValueError, match="the codes of this coder do not depend on it: leave explained_variance out"):
        largest_penalty(dictionary, x, 0.9, start=1.0)


def test_no_penalty_far_below_the_answer_is_tried_but_on_a_few_rows():
    x, dictionary = gaussian(rows=2000)
    tried = []

    class Spy(GreedyCoder):
        def encode(self, x, lam, bound):
            tried.append((len(x), lam))
            return super().encode(x, lam, bound)

    dictionary.coder = Spy()
    lam, _ = largest_penalty(dictionary, x, 0.9, start=3.0)
    assert min(each for rows, each in tried if rows > 300) > lam / 4
    assert len(tried) < 15


@pytest.mark.parametrize("start", [1e-3, 0.3, 1e9])
def test_a_share_that_is_out_of_reach_is_refused_with_how_near_it_came(start):
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    dictionary = Dictionary(torch.cat([torch.eye(4)[:3], -torch.eye(4)[:3]]))  # and nothing of the fourth dimension
    x[:, 3] = x[:, 3] / x[:, 3].norm() * x[:, :3].norm() / 2  # a fifth of the sum of squares
    most = float(1 - x[:, 3].var(correction=0) / x.var(0, correction=0).sum())
    with pytest.raises(ValueError, match=r"explained_variance is 0.98, but .*: give a smaller share") as error:
        largest_penalty(dictionary, x, 0.98, start)
    came = float(str(error.value).split("no more than about ")[1].split(":")[0])
    assert came == pytest.approx(most, abs=0.02)
    assert came > 0.7


def test_rows_of_any_number_count_alike():
    x, dictionary = axes()
    many = torch.cat([x] * 1200 + [torch.zeros(1, 4)])  # several blocks, the last of another size
    lam, _ = largest_penalty(dictionary, many, 0.96, 0.1)
    assert lam == pytest.approx(1.2, rel=0.01)

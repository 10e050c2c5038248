"""What a measurement does with each data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sparsecode_pl.data import BUCKETS
from sparsecode_pl.measurement.exact import ExactCodes
from sparsecode_pl.measurement.loss import LOSS_SCORES
from sparsecode_pl.measurement.truth import TRUTH_SCORES
from sparsecode_pl.module import SparseCodingModule
from sparsecode_pl.scoring import AtomUse, Evaluation, LargestCoefficient, Scorer, Scores
from sparsecode_pl.utilities.arguments import check_arguments
from sparsecode_pl.utilities.plain import plain_attributes

# Names in records that are no scores of rows.
_RESERVED = {
    *("data", "model", "layer", "control_of", "error", "spread", "intervals", "frontier", "fits", "folder"),
    *("arm", "sae", "role", "match"),
    *("num_samples", "lam", "train_lam", "atoms_alive", "num_atoms", "rounds", "seconds", "dead_atoms"),
    *("num_distinct", "num_types", "heldout_seen_share", "num_copies", "token_explained_variance"),
    *("atom_stability", "atom_stability_chance"),
    *TRUTH_SCORES,
    *LOSS_SCORES,
}


@dataclass(frozen=True)
class Plan:
    """The options of a measurement that its results depend on.

    Attributes:
        seeds: fits of each data set, from different initial dictionaries, >= 1.
        shares: score each dictionary at the largest penalties at which its codes explain these shares of the variance
            of the rows that are scored, in (0, 1) (paper, appendix H); at the penalty of training if there are none.
            The scores of a record are those at the first.
        evaluations: further evaluations to compute.
        loss: run the model with each dictionary's reconstructions in place of the activations.

    Raises:
        ValueError: an option is out of its range.
        TypeError: an evaluation is none.
    """

    seeds: int = 1
    shares: tuple[float, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    loss: bool = False

    def __post_init__(self) -> None:
        check_arguments(Plan, vars(self))
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}: give at least 1")
        for share in self.shares:
            if not 0 < share < 1:
                raise ValueError(f"explained_variance is {share}: give a share in (0, 1), such as 0.98")
        if len(set(self.shares)) < len(self.shares):
            raise ValueError(f"explained_variance is {list(self.shares)}: give each share once")
        for evaluation in self.evaluations:
            if not isinstance(evaluation, Evaluation):
                raise TypeError(f"evaluations has {evaluation!r}: give an object of a subclass of Evaluation")

    @classmethod
    def of(
        cls,
        seeds: int,
        explained_variance: float | Sequence[float] | None,
        exact: bool,
        evaluations: tuple[Evaluation, ...] = (),
        loss: bool = False,
    ) -> "Plan":
        """A plan from the options of `measure`, in which `exact` stands for the evaluation `ExactCodes`."""
        if explained_variance is None:
            shares: tuple[float, ...] = ()
        else:
            shares = (explained_variance,) if isinstance(explained_variance, float | int) else tuple(explained_variance)
        return cls(seeds, shares, (*((ExactCodes(BUCKETS),) if exact else ()), *evaluations), loss)

    @property
    def exact(self) -> bool:
        """Whether exact codes are scored."""
        return any(isinstance(evaluation, ExactCodes) for evaluation in self.evaluations)

    def plain(self) -> dict[str, Any]:
        """The plan in words and numbers."""
        return {
            "seeds": self.seeds,
            "explained_variance": list(self.shares) or None,
            "evaluations": [
                {"name": evaluation.name, **plain_attributes(evaluation)} for evaluation in self.evaluations
            ],
            "loss": self.loss,
        }

    def check(self, module: SparseCodingModule) -> None:
        """Check that the plan can be carried out with a module, before anything long begins.

        Raises:
            ValueError: the module has a penalty for scoring although the plan seeks one, or two scores have one name.
        """
        if self.shares and module.eval_lam is not None:
            raise ValueError(
                f"explained_variance is {list(self.shares)} and eval_lam {module.eval_lam}, and both set the "
                "penalty for scoring: give one of them"
            )
        scored = Scorer(module.dictionary, [Scores(), AtomUse(), LargestCoefficient(), *self.evaluations])
        taken = scored.metrics.keys() & _RESERVED
        if taken:
            raise ValueError(f"an evaluation gives {', '.join(sorted(taken))}, a name that records use: rename it")

"""What a measurement does with each data set."""

from dataclasses import dataclass
from typing import Any

from sparsecode_pl.measurement.exact import ExactCodes
from sparsecode_pl.scoring import Evaluation


@dataclass(frozen=True)
class Plan:
    """The options of a measurement that its results depend on.

    Attributes:
        seeds: fits of each data set, from different initial dictionaries, >= 1.
        explained_variance: score each dictionary at the largest penalty at which its codes explain this share of the
            variance of the training rows, in (0, 1) (paper, appendix H); at the penalty of training if None.
        evaluations: what is to be known beside the scores.

    Raises:
        ValueError: an option is out of its range, or an evaluation is given twice.
    """

    seeds: int = 1
    explained_variance: float | None = None
    evaluations: tuple[Evaluation, ...] = ()

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}: give at least 1")
        if self.explained_variance is not None and not 0 < self.explained_variance < 1:
            raise ValueError(f"explained_variance is {self.explained_variance}: give a share in (0, 1), such as 0.98")
        names = [evaluation.name for evaluation in self.evaluations]
        if len(set(names)) < len(names):
            raise ValueError(f"evaluations are {', '.join(names)}: give each once")

    @classmethod
    def of(
        cls, seeds: int, explained_variance: float | None, exact: bool, evaluations: tuple[Evaluation, ...] = ()
    ) -> "Plan":
        """A plan from the options of `measure`, in which `exact` stands for the evaluation `ExactCodes`."""
        return cls(seeds, explained_variance, (*((ExactCodes(),) if exact else ()), *evaluations))

    def plain(self) -> dict[str, Any]:
        """The plan in words and numbers."""
        return {
            "seeds": self.seeds,
            "explained_variance": self.explained_variance,
            "evaluations": [evaluation.name for evaluation in self.evaluations],
        }

"""Controls: data known not to be sparse, which the score of real data is held against.

`Gaussian`, `Rademacher` and `HeavyTailed` (paper, section 4.1) need only a width, and are data in their own right too.
`MatchedGaussian`, `RepeatedGaussian` and `Shuffled` are drawn from the rows of the measured data. `RandomDictionary`
and `DataRows` keep the data and do not train the dictionary.
"""

from sparsecode_control.data_rows import DataRows
from sparsecode_control.gaussian import Gaussian
from sparsecode_control.heavy_tailed import HeavyTailed
from sparsecode_control.matched_gaussian import MatchedGaussian
from sparsecode_control.rademacher import Rademacher
from sparsecode_control.random_dictionary import RandomDictionary
from sparsecode_control.repeated_gaussian import RepeatedGaussian
from sparsecode_control.shuffled import Shuffled

__all__ = [
    "DataRows",
    "Gaussian",
    "HeavyTailed",
    "MatchedGaussian",
    "Rademacher",
    "RandomDictionary",
    "RepeatedGaussian",
    "Shuffled",
]

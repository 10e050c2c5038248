"""What a decomposition costs the model: its output with a layer's activations replaced by their reconstruction.

`codec_loss` measures a codec beside its controls, on the documents that a data module holds out. `model_loss` does the
same for any replacements. A `LossReport` has the figures, with intervals by the bootstrap over documents.
"""

from sparsecode_pl.analysis.loss.arms import codec_arm, component_arm, constant_arm, control_arms, random_dictionary
from sparsecode_pl.analysis.loss.measure import check_loss, codec_loss, heldout_documents, model_loss
from sparsecode_pl.analysis.loss.report import ABLATIONS, CLEAN, LossReport, measured_by
from sparsecode_pl.analysis.loss.sums import LossSums

__all__ = [
    "ABLATIONS",
    "CLEAN",
    "LossReport",
    "LossSums",
    "check_loss",
    "codec_arm",
    "codec_loss",
    "component_arm",
    "constant_arm",
    "control_arms",
    "heldout_documents",
    "measured_by",
    "model_loss",
    "random_dictionary",
]

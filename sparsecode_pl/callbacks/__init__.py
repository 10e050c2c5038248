"""Lightning callbacks: the adaptive penalty, checkpoints, dead atoms, figures, the progress bar, and saved results."""

from sparsecode_pl.callbacks.adaptive_penalty import AdaptivePenalty
from sparsecode_pl.callbacks.code_writer import CodeWriter
from sparsecode_pl.callbacks.dictionary_saver import DictionarySaver
from sparsecode_pl.callbacks.progress import SparseCodingProgress
from sparsecode_pl.callbacks.resample_dead_atoms import ResampleDeadAtoms
from sparsecode_pl.callbacks.run_checkpoint import RunCheckpoint
from sparsecode_pl.callbacks.tensorboard_figures import TensorBoardFigures
from sparsecode_pl.callbacks.tensorboard_hparams import TensorBoardHParams

__all__ = [
    "AdaptivePenalty",
    "CodeWriter",
    "DictionarySaver",
    "ResampleDeadAtoms",
    "RunCheckpoint",
    "SparseCodingProgress",
    "TensorBoardFigures",
    "TensorBoardHParams",
]

import pytest

from sparsecode_pl.callbacks import AdaptivePenalty, SparseCodingProgress
from sparsecode_pl.module import SparseCodingModule

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:lam has not settled"),
]


class Recording(SparseCodingProgress):
    """Notes what stands left and right of the bar."""

    def __init__(self):
        super().__init__(refresh_rate=1)
        self.left, self.right = set(), []

    def on_train_batch_end(self, trainer, pl_module, *args):
        super().on_train_batch_end(trainer, pl_module, *args)
        self.left.add(self._get_train_description(trainer.current_epoch))
        self.right.append(self.get_metrics(trainer, pl_module))


def test_the_bar_names_the_round_and_shows_lam_and_l_norm(data, fit):
    bar = Recording()
    module = SparseCodingModule(16, expansion=2)
    fit(module, data, bar, AdaptivePenalty(tolerance=1e-9), enable_progress_bar=True, log_every_n_steps=1)
    assert bar.left == {"Round 1 (at most 2)", "Round 2 (at most 2)"}
    assert len(bar.right) == 24
    for shown in bar.right:
        assert set(shown) == {"lam", "L_norm"}
        assert shown["L_norm"] >= 1
    assert bar.right[-1]["lam"] == pytest.approx(float(module.lam), rel=1e-5)

import re

import pytest

from sparsecode_pl.callbacks import AdaptivePenalty, SparseCodingProgress
from sparsecode_pl.module import SparseCodingModule


class Recording(SparseCodingProgress):
    """Notes what the line says."""

    def __init__(self):
        super().__init__(refresh_rate=1)
        self.lines, self.notes = [], []

    def _begin(self, description, total):
        super()._begin(description, total)
        self.lines.append((description, total))

    def _set(self, batch_idx, total, note=""):
        super()._set(batch_idx, total, note)
        self.notes.append(note)


def test_the_line_names_the_round_and_shows_lam_and_l_norm(data, fit):
    bar = Recording()
    module = SparseCodingModule(16, expansion=2)
    fit(module, data, bar, AdaptivePenalty(tolerance=1e-9), enable_progress_bar=True, log_every_n_steps=1)
    scoring = [("scoring training rows", 2), ("scoring held-out rows", 1)]
    assert bar.lines == [("round 1 (at most 2)", 12), *scoring, ("round 2 (at most 2)", 12), *scoring]
    training = [note for note in bar.notes if note]
    assert len(training) == 24
    for note in training:
        lam, l_norm = re.fullmatch(r"lam ([\d.e-]+), L_norm ([\d.]+)", note).groups()
        assert float(l_norm) >= 1
    assert float(lam) == pytest.approx(float(module.lam), rel=0.01)


def test_the_line_is_taken_away_at_the_end_and_when_a_fit_fails(data, fit, monkeypatch):
    bar = SparseCodingProgress()
    fit(SparseCodingModule(16, expansion=2, lam=0.1), data, bar, enable_progress_bar=True, max_epochs=1)
    assert bar._line is None
    monkeypatch.setattr(data, "rank_batch", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(SparseCodingModule(16, expansion=2, lam=0.1), data, bar, enable_progress_bar=True, max_epochs=1)
    assert bar._line is None


def test_a_disabled_one_shows_nothing(data, fit, capsys):
    bar = SparseCodingProgress()
    bar.disable()
    fit(SparseCodingModule(16, expansion=2, lam=0.1), data, bar, enable_progress_bar=True, max_epochs=1)
    assert "round" not in capsys.readouterr().out

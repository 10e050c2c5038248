"""What repetition does to the scores, on noise whose answer is known: it has no structure but its repetition."""

from functools import partial

import numpy as np
import pytest
from sparsecode_control import Gaussian, RepeatedGaussian
from sparsecode_synthetic import RepeatedNoise

from sparsecode_pl import SparseCodingModule, measure
from sparsecode_pl.measurement.trainer import default_trainer

D = 32


@pytest.mark.slow
def test_repetition_reads_as_sparsity_only_where_it_was_trained_on(tmp_path):
    """Training rows score like other noise with their repetitions, and unseen tokens like fresh noise.

    A tenth of the rows are one vector, so that S1 of training rows differs by a tenth from one draw of the vectors to
    the next. The mean of two draws is compared.
    """
    trainer = partial(default_trainer, accelerator="cpu", devices=1, enable_progress_bar=False)
    measured = partial(measure, explained_variance=0.98, folder=tmp_path, trainer=trainer)
    draws = [RepeatedNoise(d_model=D, num_types=8000, num_samples=20_000, seed=seed) for seed in (0, 1)]
    with pytest.warns(UserWarning, match="3,336 of 18,000 training rows are different, and repetition alone reads as"):
        records = measured(SparseCodingModule(D, num_atoms=256), draws, [RepeatedGaussian()])
    noise, repeated = records[::2], records[1::2]
    (fresh,) = measured(SparseCodingModule(D, num_atoms=256), Gaussian(d_model=D, num_samples=20_000))
    trained = np.mean([record["S1"] for record in noise])
    assert trained == pytest.approx(np.mean([record["S1"] for record in repeated]), rel=0.05)
    assert trained < 0.4 * fresh["S1"]
    assert np.mean([record["heldout_S1"] for record in noise]) == pytest.approx(fresh["heldout_S1"], rel=0.05)

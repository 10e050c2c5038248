import re

import pytest

from sparsecode_pl.cli import main


@pytest.mark.parametrize("command", ["validate", "test"])
def test_scoring_a_checkpoint_needs_no_argument_of_the_model(
    fitted, checkpoint, here, capsys, command, small, quiet, final_scores
):
    main([command, *small, *quiet, f"--ckpt_path={checkpoint}"])
    shown = capsys.readouterr().out
    expected = final_scores(fitted)
    for tag in ("train/S1", "heldout/S1", "train/L_norm", "heldout/N0"):
        value = re.search(rf"{tag}\W+([\d.]+)", shown)[1]
        assert float(value) == pytest.approx(expected[tag], rel=1e-5), tag

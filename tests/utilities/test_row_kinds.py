import torch

from sparsecode_pl.data import ROWS, score_name
from sparsecode_pl.measurement.intervals import take_sums
from sparsecode_pl.module import record_names
from sparsecode_pl.utilities.row_kinds import telling


def test_training_rows_have_no_prefix_and_all_scores_follow_one_rule():
    assert [score_name(kind, "S1") for kind in ROWS] == ["S1", "heldout_S1", "unseen_S1"]
    assert list(record_names({f"{kind}/S1": 1.0 for kind in ROWS})) == [score_name(kind, "S1") for kind in ROWS]
    for kind in ROWS:
        assert list(take_sums({"sums": torch.zeros(2, 9)}, kind)) == [score_name(kind, "sums")]


def test_the_last_kind_of_the_data_tells_most():
    control = {"control_of": "data", "S1": 9.0, "unseen_S1": 9.0}
    assert telling([{"S1": 2.0}, control]) == "train"
    assert telling([{"S1": 2.0, "heldout_S1": 2.0}, control]) == "heldout"
    assert telling([control]) == "unseen"

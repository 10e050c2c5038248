import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from sparsecode_pl.callbacks import CodeWriter
from sparsecode_pl.coding import load_codes
from sparsecode_pl.module import SparseCodingModule


@pytest.fixture
def module(data, fit) -> SparseCodingModule:
    module = SparseCodingModule(16, expansion=2, lam=0.1)
    fit(module, data, max_epochs=1)
    return module


@pytest.fixture
def predict(quiet_trainer):
    """Predicts with a quiet trainer and a writer of codes."""

    def predict(module, data, writer, **settings):
        quiet_trainer(callbacks=[writer], **settings).predict(module, data, return_predictions=False)

    return predict


def test_the_shards_hold_the_codes_of_all_rows_in_order(module, data, predict, tmp_path):
    folder = tmp_path / "deep" / "codes"
    predict(module, data, CodeWriter(str(folder)))
    assert len(list(folder.iterdir())) > 1  # so that order and joining are put to the test
    loaded, expected = load_codes(folder), module(data.rows)
    assert loaded.shape == (1000, 32)
    assert torch.equal(loaded.crow_indices(), expected.crow_indices())
    assert torch.equal(loaded.col_indices(), expected.col_indices())
    torch.testing.assert_close(loaded.values(), expected.values())


def test_the_folder_is_in_that_of_the_log_unless_given(module, data, predict, tmp_path):
    predict(module, data, CodeWriter(), logger=TensorBoardLogger(tmp_path, name="run", version=3))
    assert load_codes(tmp_path / "run" / "version_3" / "codes").shape == (1000, 32)


def test_a_folder_with_codes_is_refused_before_any_work(module, data, predict, tmp_path, monkeypatch):
    predict(module, data, CodeWriter(str(tmp_path)))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(SparseCodingModule, "predict_step", lambda *_: pytest.fail("prediction has begun"))
    with pytest.raises(ValueError, match=f"folder {tmp_path} has codes already: remove them, or give another folder"):
        predict(module, data, CodeWriter(str(tmp_path)))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_fit_writes_no_codes(data, fit, tmp_path):
    fit(SparseCodingModule(16, expansion=2, lam=0.1), data, CodeWriter(str(tmp_path / "codes")), max_epochs=1)
    assert not (tmp_path / "codes").exists()

import pytest
import torch
from lightning import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from sparsecode_pl.callbacks import AdaptivePenalty, DictionarySaver
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.module import SparseCodingModule


def test_the_learnt_dictionary_lies_in_the_folder_of_the_log(data, fit, tmp_path):
    module = SparseCodingModule(16, expansion=2, scale=True)
    logger = TensorBoardLogger(tmp_path, name="run", version=0)
    fit(module, data, AdaptivePenalty(), DictionarySaver(), logger=logger)
    loaded = Dictionary.from_pretrained(tmp_path / "run" / "version_0" / "dictionary")
    for name, value in module.dictionary.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    codes = loaded.encode(data.rows, float(module.lam))
    assert torch.equal(codes.to_dense(), module(data.rows).to_dense())


def test_it_is_there_after_every_round(data, fit, tmp_path):
    class Stumbling(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.current_epoch == 1:
                self.atoms = pl_module.dictionary.atoms.detach().clone()
                raise RuntimeError("the machine goes down")

    stumbling = Stumbling()
    logger = TensorBoardLogger(tmp_path, name="", version="")
    module = SparseCodingModule(16, expansion=2)
    with pytest.raises(RuntimeError, match="goes down"):
        fit(module, data, AdaptivePenalty(tolerance=1e-9), DictionarySaver(), stumbling, logger=logger)
    assert torch.equal(Dictionary.from_pretrained(tmp_path / "dictionary").atoms, stumbling.atoms)


def test_without_a_logger_there_is_no_folder_to_write_to(data, fit, tmp_path):
    fit(SparseCodingModule(16, expansion=2, lam=0.1), data, DictionarySaver())
    assert not list(tmp_path.rglob("dictionary.json"))

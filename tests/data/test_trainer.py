import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import RunningStage

from sparsecode_pl.data.loader import BatchSampler


class Recorder(LightningModule):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: list[torch.Tensor] = []
        self.validated: dict[int, list[torch.Tensor]] = {}

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        self.trained.append(batch)
        return self.weight**2

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.validated.setdefault(dataloader_idx, []).append(batch[1])

    def predict_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**kwargs) -> Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(accelerator="cpu", num_sanity_val_steps=0, **quiet, **kwargs)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_fit_sees_the_batches_of_each_epoch_and_every_row_in_validation(numbered):
    data, module = numbered(40, batch_size=8, batches_per_round=6, val_split=0.25), Recorder()
    trainer(max_epochs=2, devices=1).fit(module, data)
    expected = [data.train_batch(epoch, index) for epoch in range(2) for index in range(6)]
    assert len(module.trained) == len(expected)
    assert all(map(torch.equal, module.trained, expected))
    for loader, index in enumerate([data.train_index, data.heldout_index]):
        seen = torch.cat(module.validated[loader])[:, 0].long()
        assert sorted(seen.tolist()) == sorted([*index.tolist(), *index.tolist()])  # once in each of two epochs


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_predict_gives_every_row_with_its_index(numbered):
    data = numbered(45, batch_size=3)
    pairs = trainer(devices=1).predict(Recorder(), data)
    assert torch.cat([index for index, _ in pairs]).tolist() == list(range(45))
    assert torch.equal(torch.cat([rows for _, rows in pairs]), data.rows)


@pytest.mark.parametrize("stage", [RunningStage.TRAINING, RunningStage.VALIDATING, RunningStage.PREDICTING])
def test_lightning_leaves_the_sampler_in_place_under_ddp(numbered, stage):
    # The question is put to Lightning's connector, which asks it of every loader, so that no process need be started.
    connector = trainer(devices=2, strategy="ddp")._data_connector
    data = numbered(40, batches_per_round=5)
    loaders = {RunningStage.TRAINING: data.train_dataloader(), RunningStage.VALIDATING: data.val_dataloader()[0]}
    loader = loaders.get(stage) or data.predict_dataloader()
    prepared = connector._prepare_dataloader(loader, shuffle=False, mode=stage)
    assert prepared.sampler is loader.sampler
    assert isinstance(prepared.sampler, BatchSampler)
    assert len(prepared) == len(loader)

import pytest
import torch

from sparsecode_pl.callbacks.run_checkpoint import checkpoints_in
from sparsecode_pl.cli import main
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.module import SparseCodingModule


def test_fit_leaves_curves_a_checkpoint_a_dictionary_and_its_configuration(
    fitted, checkpoint, small_data, final_scores
):
    names = {path.name for path in fitted.iterdir()}
    assert names >= {"checkpoints", "config.yaml", "dictionary"}
    assert len([name for name in names if name.startswith("events.out.tfevents")]) == 1
    module = SparseCodingModule.load_from_checkpoint(checkpoint)
    assert module.dictionary.shape == (48, 16)
    assert torch.equal(Dictionary.from_pretrained(fitted / "dictionary").atoms, module.dictionary.atoms)
    scores = final_scores(fitted)
    codes = module(small_data().rows[small_data().train_index]).to_dense()
    assert scores["train/N0"] == pytest.approx(float((codes > 0).sum(1).double().mean()), rel=1e-5)
    assert scores["lam"] == pytest.approx(float(module.lam), rel=1e-5)


def test_fit_again_from_the_configuration_that_was_saved_gives_the_same_dictionary(fitted, here):
    main(["fit", "--config", str(fitted / "config.yaml")])
    again = Dictionary.from_pretrained(here / "lightning_logs" / "version_0" / "dictionary")
    assert torch.equal(again.atoms, Dictionary.from_pretrained(fitted / "dictionary").atoms)


def test_fit_goes_on_from_a_checkpoint(checkpoint, here, fit_words):
    main([*fit_words, "--trainer.max_epochs=3", "--adaptive_penalty.tolerance=1e-9", f"--ckpt_path={checkpoint}"])
    assert [path.name for path in here.rglob("*.ckpt")] == ["round=3-batch=6.ckpt"]


def test_without_learning_the_atoms_are_the_first_ones(here, fit_words):
    main([*fit_words, "--model.learn=false", "--model.init=random", "--model.seed=3"])
    saved = Dictionary.from_pretrained(here / "lightning_logs" / "version_0" / "dictionary")
    assert torch.equal(saved.atoms, SparseCodingModule(16, seed=3).dictionary.atoms)
    path = checkpoints_in(here / "lightning_logs" / "version_0" / "checkpoints")[0]
    assert SparseCodingModule.load_from_checkpoint(path).learn is False


def test_model_parts_can_be_chosen(here, monkeypatch, fit_words, small_data):
    modules = []
    monkeypatch.setattr(SparseCodingModule, "on_fit_end", lambda module: modules.append(module), raising=False)
    optimizer = ["--model.optimizer=SGD", "--model.optimizer.lr=0.5"]
    scheduler = ["--model.lr_scheduler=ExponentialLR", "--model.lr_scheduler.gamma=0.5"]
    main(
        [
            *fit_words,
            *optimizer,
            *scheduler,
            "--model.coder=GreedyCoder",
            "--model.coder.max_atoms=2",
            "--model.lam=0.1",
        ]
    )
    (module,) = modules
    (used,) = module.trainer.optimizers
    assert type(used) is torch.optim.SGD
    assert used.param_groups[0]["lr"] == 0.5 * 0.5**6
    assert module(small_data().rows).crow_indices().diff().max() == 2


def test_a_fast_dev_run_writes_nothing(here, fit_words):
    main([*fit_words, "--trainer.fast_dev_run=true"])
    assert not list(here.rglob("*.ckpt"))
    assert not list(here.rglob("events*"))


def test_a_progress_bar_is_no_hindrance(here, capsys, fit_words):
    main([*fit_words, "--trainer.enable_progress_bar=true", "--trainer.max_epochs=1"])
    assert (here / "lightning_logs" / "version_0" / "dictionary").is_dir()


@pytest.mark.filterwarnings("ignore:.*lam is too large")
def test_codes_that_are_all_zero_are_no_crash(here, fit_words, final_scores):
    main([*fit_words, "--model.lam=1000"])
    assert final_scores(here / "lightning_logs" / "version_0")["train/N0"] == 0

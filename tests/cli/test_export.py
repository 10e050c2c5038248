import json

import pytest
import torch
from safetensors.torch import load_file

from sparsecode_pl.callbacks.run_checkpoint import checkpoints_in
from sparsecode_pl.cli import main
from sparsecode_pl.coding import GreedyCoder
from sparsecode_pl.dictionary import Dictionary
from sparsecode_pl.module import SparseCodingModule


@pytest.fixture
def changed(checkpoint, tmp_path):
    """Changes the content of a copy of the checkpoint, and gives the path of that."""

    def changed(change):
        content = torch.load(checkpoint, weights_only=True)
        change(content)
        torch.save(content, tmp_path / "changed.ckpt")
        return str(tmp_path / "changed.ckpt")

    return changed


def test_the_folder_gives_the_codes_of_the_module_in_the_checkpoint(checkpoint, here, small_data):
    main(["export", checkpoint, "deep/mine"])
    dictionary = Dictionary.from_pretrained(here / "deep" / "mine")
    module = SparseCodingModule.load_from_checkpoint(checkpoint)
    rows = small_data().rows
    codes = dictionary.encode(rows)
    assert codes.values().numel() > len(rows) / 2  # codes that are all zero would be equal whatever the dictionary
    assert torch.equal(codes.to_dense(), module(rows).to_dense())
    assert dictionary.lam == float(module.lam)
    torch.testing.assert_close(dictionary.decode(codes), module.dictionary.decode(module(rows)), atol=0, rtol=0)


def test_the_folder_is_the_one_that_the_fit_has_left(checkpoint, fitted, here):
    main(["export", checkpoint, "mine"])
    mine, left = (Dictionary.from_pretrained(folder) for folder in (here / "mine", fitted / "dictionary"))
    assert mine.state_dict().keys() == left.state_dict().keys()
    assert all(torch.equal(value, left.state_dict()[name]) for name, value in mine.state_dict().items())
    assert mine.card.data == left.card.data == "SparseLinear a=1.5"
    assert mine.card.scores == left.card.scores
    assert mine.card.rows == {"train": 450, "heldout": 50}


def test_coder_and_penalty_for_scoring_go_with_the_dictionary(here, fit_words, small_data):
    coder = ["--model.coder=GreedyCoder", "--model.coder.max_atoms=1"]
    main([*fit_words, *coder, "--model.lam=0.1", "--model.eval_lam=0.2"])
    path = checkpoints_in(here / "lightning_logs" / "version_0" / "checkpoints")[0]
    main(["export", str(path), "mine"])
    dictionary = Dictionary.from_pretrained(here / "mine")
    assert dictionary.lam == 0.2
    assert dictionary.coder.settings() == GreedyCoder(max_atoms=1).settings()
    assert dictionary.encode(small_data().rows).crow_indices().diff().max() == 1


@pytest.mark.parametrize("eval_lam", [None, 0.25])
def test_a_checkpoint_from_before_the_dictionary_had_a_penalty_takes_that_of_scoring(changed, here, eval_lam):
    def older(content):
        del content["state_dict"]["dictionary.penalty"]
        content["hyper_parameters"]["eval_lam"] = eval_lam

    path = changed(older)
    main(["export", path, "mine"])
    lam = float(torch.load(path, weights_only=True)["state_dict"]["lam"])
    assert lam > 0
    assert Dictionary.from_pretrained(here / "mine").lam == (eval_lam or lam)


def test_an_earlier_export_is_replaced(checkpoint, here):
    Dictionary(torch.eye(3), lam=1.0).save_pretrained(here / "mine")
    main(["export", checkpoint, "mine"])
    assert Dictionary.from_pretrained(here / "mine").shape == (48, 16)


def test_a_checkpoint_that_is_not_there_is_refused(refused, here):
    message = refused("export", "nowhere.ckpt", "mine")
    assert "checkpoint is 'nowhere.ckpt', and there is no such file: give the checkpoint" in message
    assert not (here / "mine").exists()


def no_archive(path):
    path.write_text("not a checkpoint")


def tensors_alone(path):
    torch.save({"weight": torch.eye(3)}, path)


def another_module(path):
    torch.save({"state_dict": {"layer.weight": torch.eye(3)}, "hyper_parameters": {}}, path)


@pytest.mark.parametrize(
    ("write", "what", "cure"),
    [
        (no_archive, "damaged, or no checkpoint (BadZipFile", "give the checkpoint of a fit"),
        (tensors_alone, "damaged, or no checkpoint (TypeError: it has no state_dict", "give the checkpoint of a fit"),
        (another_module, "no checkpoint of a SparseCodingModule (KeyError", "give one that `sparsecode fit` wrote"),
    ],
)
def test_a_file_that_is_no_checkpoint_of_ours_is_refused(refused, here, write, what, cure):
    write(here / "other.ckpt")
    message = refused("export", "other.ckpt", "mine")
    assert f"checkpoint is 'other.ckpt', and that is {what}" in message
    assert cure in message
    assert message.count("checkpoint is") == 1
    assert not (here / "mine").exists()


def test_a_checkpoint_that_holds_code_is_refused_and_the_code_not_run(refused, here):
    class Evil:
        def __reduce__(self):
            return (print, ("the code has run",))

    torch.save({"state_dict": {}, "hyper_parameters": Evil()}, here / "evil.ckpt")
    message = refused("export", "evil.ckpt", "mine")
    assert "checkpoint is 'evil.ckpt', and that is damaged, or no checkpoint" in message
    assert not (here / "mine").exists()


def test_a_checkpoint_from_before_training_is_refused(refused, here):
    module = SparseCodingModule(16, expansion=2)
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    torch.save(content, here / "early.ckpt")
    message = refused("export", "early.ckpt", "mine")
    assert "checkpoint is 'early.ckpt', and its dictionary was not learnt yet: give a later one" in message
    assert not (here / "mine").exists()


def test_a_folder_of_something_else_is_refused(refused, checkpoint, here):
    (here / "project").mkdir()
    (here / "project" / "README.md").write_text("my project")
    message = refused("export", checkpoint, "project")
    assert "folder project has a README.md that is not a dictionary's: give another folder" in message
    assert [path.name for path in (here / "project").iterdir()] == ["README.md"]


# --- dictionaries, and other formats ---------------------------------------------------------------------------------


def test_a_dictionary_can_be_exported_from_its_folder(fitted, here):
    main(["export", str(fitted / "dictionary"), "mine"])
    mine, given = (Dictionary.from_pretrained(folder) for folder in (here / "mine", fitted / "dictionary"))
    assert torch.equal(mine.atoms, given.atoms)
    assert mine.card == given.card


def test_a_folder_for_saelens_holds_atoms_centre_penalty_scale_and_coder(checkpoint, fitted, here):
    main(["export", checkpoint, "mine", "--format=saelens", "--hook_name=blocks.2.hook_resid_pre"])
    given = Dictionary.from_pretrained(fitted / "dictionary")
    weights = load_file(here / "mine" / "sae_weights.safetensors")
    assert torch.equal(weights["W_dec"], given.atoms)
    assert torch.equal(weights["b_dec"], given.centre)
    config = json.loads((here / "mine" / "cfg.json").read_text())
    assert (config["d_in"], config["d_sae"], config["architecture"]) == (16, 48, "sparsecode_greedy")
    assert (config["lam"], config["scale"]) == (given.lam, float(given.scale))
    assert config["scale"] != 1
    assert config["coder"] == given.coder.settings()
    assert config["metadata"]["hook_name"] == "blocks.2.hook_resid_pre"
    assert int(config["metadata"]["sae_lens_version"].partition(".")[0]) >= 6


def test_matching_pursuit_is_written_when_it_is_asked_for(checkpoint, here):
    with pytest.warns(UserWarning, match="other codes than the dictionary"):
        main(["export", checkpoint, "mine", "--format=saelens", "--architecture=matching_pursuit", "--steps=4"])
    config = json.loads((here / "mine" / "cfg.json").read_text())
    assert (config["architecture"], config["max_iterations"]) == ("matching_pursuit", 4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps=3"], "steps is 3, and format 'folder': give --format saelens, or leave it out"),
        (["--format=saelens", "--steps=3"], "steps is 3: give it with --architecture matching_pursuit"),
        (["--format=onnx"], "format"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(refused, checkpoint, here, words, message):
    assert message in refused("export", checkpoint, "mine", *words)
    assert not (here / "mine").exists()

import torch

from sparsecode_pl.callbacks.run_checkpoint import checkpoints_in
from sparsecode_pl.cli import main
from sparsecode_pl.coding import load_codes
from sparsecode_pl.module import SparseCodingModule


def test_predict_writes_the_codes_of_all_rows(checkpoint, here, small, quiet, small_data):
    main(["predict", *small, *quiet, f"--ckpt_path={checkpoint}"])
    codes = load_codes(here / "lightning_logs" / "version_0" / "codes")
    expected = SparseCodingModule.load_from_checkpoint(checkpoint)(small_data().rows)
    assert codes.shape == (500, 48)
    assert torch.equal(codes.col_indices(), expected.col_indices())
    torch.testing.assert_close(codes.values(), expected.values())


def test_predict_takes_the_penalty_that_it_is_given(checkpoint, here, small, quiet, small_data):
    main(["predict", *small, *quiet, f"--ckpt_path={checkpoint}", "--model.eval_lam=0.5"])
    codes = load_codes(here / "lightning_logs" / "version_0" / "codes")
    dictionary = SparseCodingModule.load_from_checkpoint(checkpoint).dictionary
    expected = dictionary.encode(small_data().rows, 0.5)
    assert torch.equal(codes.col_indices(), expected.col_indices())


def test_predict_takes_the_coder_of_the_fit(here, fit_words, small, quiet):
    main([*fit_words, "--model.coder=GreedyCoder", "--model.coder.max_atoms=1", "--model.lam=0.1"])
    path = checkpoints_in(here / "lightning_logs" / "version_0" / "checkpoints")[0]
    main(["predict", *small, *quiet, f"--ckpt_path={path}"])
    codes = load_codes(here / "lightning_logs" / "version_1" / "codes")
    assert codes.crow_indices().diff().max() == 1

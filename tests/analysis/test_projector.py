import torch

from sparsecode_pl import Dictionary
from sparsecode_pl.analysis.features import find_features
from sparsecode_pl.analysis.projector import write_projector
from sparsecode_pl.data import TensorActivations


def test_atoms_stand_in_the_projector_with_their_tokens(tmp_path):
    words = ["sun", "two words", "tab\tand\nline"] * 4
    data = TensorActivations(torch.eye(3).repeat(4, 1), columns={"token": words}, val_split=0)
    atoms = torch.cat([torch.eye(3), -torch.ones(1, 3) / 3**0.5])
    features = find_features(Dictionary(atoms, lam=0.1), data)
    write_projector(tmp_path, {"first": (atoms, features), "second": (atoms, features)})
    labels, _ = sorted(tmp_path.rglob("metadata.tsv"))
    header, *lines = labels.read_text().splitlines()
    assert header.split("\t") == ["label", "token", "frequency"]
    assert [line.split("\t") for line in lines] == [
        ["0 sun", "sun", "0.333"],
        ["1 two words", "two words", "0.333"],
        ["2 tab\\tand\\nline", "tab\\tand\\nline", "0.333"],
        ["3", "-", "0"],
    ]
    tensors, _ = sorted(tmp_path.rglob("tensors.tsv"))
    read = [[float(value) for value in line.split("\t")] for line in tensors.read_text().splitlines()]
    torch.testing.assert_close(torch.tensor(read), atoms)
    assert (tmp_path / "projector_config.pbtxt").read_text().count("tensor_name") == 2

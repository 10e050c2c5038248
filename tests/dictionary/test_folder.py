import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sparsecode_pl.coding import LassoCoder
from sparsecode_pl.dictionary import Card, Dictionary
from sparsecode_pl.utilities import files


@pytest.fixture
def dictionary():
    atoms = Dictionary.random(12, 5, torch.Generator().manual_seed(0)).atoms
    scores = {"S1": 2.5, "heldout_S1": 2.75, "heldout_L_norm": 3.0, "heldout_N0": math.nan}
    card = Card(
        data="toy | layer 3",
        model="toy",
        layer="3",
        source={"text": "a.txt"},
        rows={"train": 90, "heldout": 10},
        seed=7,
        versions={"torch": "2.0"},
        scores=scores,
        controls={"Gaussian": {"S1": 9.0, "heldout_S1": 9.5}},
    )
    return Dictionary(atoms, torch.arange(5.0), 2.0, lam=0.123456789012345, coder=LassoCoder(tol=1e-3), card=card)


@pytest.fixture
def saved(dictionary, tmp_path):
    dictionary.save_pretrained(tmp_path / "d")
    return tmp_path / "d"


def facts(folder):
    return json.loads((folder / "dictionary.json").read_text())


def test_all_of_it_comes_back(dictionary, saved):
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "dictionary.json", "dictionary.safetensors"]
    loaded = Dictionary.from_pretrained(saved)
    for name, tensor in dictionary.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert loaded.lam == 0.123456789012345
    assert loaded.coder.settings() == dictionary.coder.settings()
    assert repr(loaded.card) == repr(dictionary.card)  # which holds NaN equal to NaN
    x = torch.randn(20, 5)
    assert torch.equal(loaded.encode(x).to_dense(), dictionary.encode(x).to_dense())


def test_the_files_say_their_format(saved):
    assert facts(saved)["format"] == 2
    assert facts(saved)["weights"]["checksum"] == files.checksum(saved / "dictionary.safetensors")


def test_the_readme_has_the_measured_table_and_three_lines_that_run(saved):
    text = (saved / "README.md").read_text()
    assert "| **toy \\| layer 3** | 2.50 | 2.75 | 3.00 | nan |" in text
    assert "| Gaussian | 9.00 | 9.50 |" in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) == 3
    namespace = {"x": torch.randn(4, 5)}
    exec(code, namespace)  # noqa: S102
    assert namespace["codes"].shape == (4, 12)


def test_a_dictionary_without_controls_says_so(saved, dictionary):
    assert "without controls" not in (saved / "README.md").read_text()
    dictionary.card = Card(data="toy", scores={"S1": 2.0})
    dictionary.save_pretrained(saved)
    assert "It was measured without controls" in (saved / "README.md").read_text()


def test_it_loads_and_encodes_without_lightning(saved):
    script = (
        "import sys, torch\nfrom sparsecode_pl import Dictionary\n"
        f"codes = Dictionary.from_pretrained({str(saved)!r}).encode(torch.randn(4, 5))\n"
        "assert codes.shape == (4, 12)\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('lightning', 'pytorch_lightning')]"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr


def test_saving_over_another_dictionary_replaces_it(saved):
    Dictionary(torch.eye(3), lam=1.0).save_pretrained(saved)
    assert Dictionary.from_pretrained(saved).shape == (3, 3)


@pytest.mark.parametrize("step", range(3))
def test_a_save_that_dies_between_its_renames_leaves_a_dictionary_that_loads(saved, monkeypatch, step):
    before, after = Dictionary.from_pretrained(saved), Dictionary(torch.eye(3), lam=1.0)
    names = iter(range(10))

    def dying(path):
        if next(names) == step:
            raise KeyboardInterrupt
        publish(path)

    publish = files.publish
    monkeypatch.setattr(files, "publish", dying)
    with pytest.raises(KeyboardInterrupt):
        after.save_pretrained(saved)
    monkeypatch.setattr(files, "publish", publish)
    found = Dictionary.from_pretrained(saved)
    expected = before if step == 0 else after
    assert torch.equal(found.atoms, expected.atoms)
    assert found.lam == expected.lam
    after.save_pretrained(saved)
    assert Dictionary.from_pretrained(saved).lam == 1.0


def test_a_readme_of_something_else_is_not_overwritten(dictionary, tmp_path):
    (tmp_path / "README.md").write_text("my project")
    with pytest.raises(FileExistsError, match=r"has a README.md that is not a dictionary's: give another folder"):
        dictionary.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_the_format_before_loads_without_a_penalty(tmp_path):
    save_file(
        {"atoms": torch.eye(3), "centre": torch.ones(3), "scale": torch.tensor(2.0)},
        tmp_path / "dictionary.safetensors",
    )
    (tmp_path / "dictionary.json").write_text(json.dumps({"format": 1, "num_atoms": 3, "d_model": 3}))
    loaded = Dictionary.from_pretrained(tmp_path)
    assert loaded.encode(torch.ones(1, 3) * 5, lam=0.2).to_dense().tolist() == [[pytest.approx(1.9)] * 3]
    with pytest.raises(ValueError, match="lam is missing"):
        loaded.encode(torch.ones(1, 3))


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_or_holds_none_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere: give a folder that"):
        Dictionary.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "cfg.json").touch()
    (tmp_path / "sae_weights.safetensors").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no dictionary .*, only cfg.json, sae_weights.safetensors"):
        Dictionary.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "is of format 99, and this version reads up to 2: update sparsecode-pl"),
        ({"format": "2"}, "its format is '2'"),
        ({"format": 0}, "its format is 0"),
        ({"num_atoms": 13}, r"atoms \(12, 5\) do not fit dictionary.json, which says \(13, 5\)"),
        ({"lam": -1}, "lam is -1"),
        ({"lam": "high"}, "lam is 'high', not a number or None"),
        ({"weights": {}}, "is damaged"),
        ({"coder": {"class_path": "os.system", "init_args": {"command": "true"}}}, "os.system"),
        ({"coder": {"class_path": "sparsecode_pl.coding.coder.GreedyCoder", "init_args": {"rubbish": 1}}}, "rubbish"),
    ],
)
def test_facts_that_are_wrong_are_refused_by_name(saved, change, message):
    (saved / "dictionary.json").write_text(json.dumps(facts(saved) | change))
    with pytest.raises(ValueError, match=message) as error:
        Dictionary.from_pretrained(saved)
    assert str(saved) in str(error.value)


def test_code_that_the_files_name_is_not_run(saved, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('run')\nclass Evil: pass")
    monkeypatch.syspath_prepend(tmp_path)
    coder = {"class_path": "evil.Evil", "init_args": {}}
    (saved / "dictionary.json").write_text(json.dumps(facts(saved) | {"coder": coder}))
    with pytest.raises(ValueError, match=r"evil.Evil"):
        Dictionary.from_pretrained(saved)
    assert "evil" not in sys.modules
    assert Dictionary.from_pretrained(saved, coder=LassoCoder()).lam == 0.123456789012345


@pytest.mark.parametrize("content", ["{", '{"format": 1, "num_atoms": 12, "d_model": 5}'])
def test_a_partial_file_that_does_not_belong_to_the_weights_is_no_help(saved, dictionary, content):
    (saved / "dictionary.json.partial").write_text(content)
    other = facts(saved)["weights"] | {"checksum": "0" * 64}
    (saved / "dictionary.json").write_text(json.dumps(facts(saved) | {"weights": other}))
    with pytest.raises(ValueError, match=r"is not the file that dictionary.json describes"):
        Dictionary.from_pretrained(saved)
    dictionary.save_pretrained(saved)
    assert Dictionary.from_pretrained(saved).lam == dictionary.lam


@pytest.mark.parametrize("name", ["dictionary.json", "dictionary.safetensors"])
@pytest.mark.parametrize("length", [0, 10, -2])
def test_a_file_that_was_cut_off_is_refused_by_name(saved, name, length):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[:length])
    with pytest.raises(ValueError, match=r"damaged|checksums differ") as error:
        Dictionary.from_pretrained(saved)
    assert name in str(error.value)


def test_weights_of_another_dictionary_are_refused(saved, tmp_path):
    Dictionary(torch.eye(5), lam=1.0).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "dictionary.safetensors").replace(saved / "dictionary.safetensors")
    with pytest.raises(ValueError, match=r"is not the file that dictionary.json describes"):
        Dictionary.from_pretrained(saved)


def test_a_name_on_the_hub_that_cannot_be_had_is_named():
    with pytest.raises(OSError, match="name is 'nobody/nothing', and there is neither such a folder nor a dictionary"):
        Dictionary.from_pretrained("nobody/nothing")


def test_names_on_the_hub_are_downloaded_and_uploaded(dictionary, saved, monkeypatch, tmp_path):
    import huggingface_hub

    asked, uploaded = {}, {}

    def download(name, **options):
        asked.update(name=name, **options)
        return str(saved)

    class Api:
        def __init__(self, token=None):
            uploaded["token"] = token

        def create_repo(self, name, **options):
            uploaded.update(name=name, **options)

        def upload_folder(self, repo_id, folder_path, **options):
            loaded = Dictionary.from_pretrained(folder_path)
            uploaded.update(repo_id=repo_id, lam=loaded.lam)
            uploaded["readme"] = Path(folder_path, "README.md").read_text()
            return "https://hub/me/mine"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert Dictionary.from_pretrained("me/mine", revision="v1").lam == dictionary.lam
    assert (asked["name"], asked["revision"]) == ("me/mine", "v1")
    assert set(asked["allow_patterns"]) == {"dictionary.safetensors", "dictionary.json", "README.md"}
    address = dictionary.push_to_hub("me/mine", private=True, token="t")  # noqa: S106
    assert address == "https://hub/me/mine"
    assert (uploaded["repo_id"], uploaded["private"], uploaded["token"]) == ("me/mine", True, "t")
    assert 'Dictionary.from_pretrained("me/mine")' in uploaded["readme"]

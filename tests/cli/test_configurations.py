from pathlib import Path

import pytest
import yaml

from sparsecode_pl.cli import main
from sparsecode_pl.cli.lightning import SparseCodingCLI

CONFIGS = Path(__file__, "../../../configs").resolve()


class Parsed(Exception):  # noqa: N818
    """Raised where a command line has been read, instead of making anything of it."""


@pytest.fixture
def parse(monkeypatch, here):
    """Reads a command line, and returns its settings."""

    def stop(cli):
        raise Parsed(cli.config[cli.subcommand])

    monkeypatch.setattr(SparseCodingCLI, "instantiate_classes", stop)

    def parse(*words):
        with pytest.raises(Parsed) as parsed:
            main(list(words))
        return parsed.value.args[0]

    return parse


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_a_shipped_configuration_is_read(path, parse):
    written = yaml.safe_load(path.read_text())
    read = parse("measure", "--config", str(path))
    assert read["data"]["class_path"].split(".")[-1] == written["data"]["class_path"]
    assert read["data"]["init_args"].as_dict().items() >= written["data"]["init_args"].items()
    controls = [control["class_path"].split(".")[-1] for control in read["controls"] or []]
    assert controls == [control["class_path"] for control in written.get("controls", [])]
    assert read["output"] == written.get("output", "lightning_logs/measure")


def test_there_are_configurations():
    assert len(list(CONFIGS.rglob("*.yaml"))) >= 6


def test_the_command_line_goes_before_the_configuration(parse):
    path = CONFIGS / "paper" / "synthetic_a5.yaml"
    read = parse("fit", "--config", str(write_fit_config(path)), "--data.active=7", "--model.num_atoms=9")
    assert read["data"]["init_args"]["active"] == 7
    assert read["data"]["init_args"]["num_samples"] == 20480
    assert read["model"]["num_atoms"] == 9


def write_fit_config(path):
    """The same configuration without what belongs to `measure`, in the working folder."""
    settings = yaml.safe_load(path.read_text())
    copy = Path("config.yaml")
    copy.write_text(yaml.safe_dump({name: settings[name] for name in ("data", "model")}))
    return copy

import pytest

from sparsecode_pl.cli import main

COMMANDS = ["fit", "validate", "test", "predict", "measure"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_what_a_command_takes(command, helped):
    shown = helped(command, "--help")
    for option in ("--data", "--model.lam", "--model.expansion", "--trainer.max_epochs", "--adaptive_penalty.ratio"):
        assert option in shown
    assert "atoms per dimension" in shown  # docstrings are shown
    for option in {"measure": ["--controls", "--seeds", "--output"]}.get(command, ["--ckpt_path"]):
        assert option in shown


def test_help_lists_the_commands(helped):
    shown = helped("--help")
    for command in [*COMMANDS, "plugins"]:
        assert command in shown


def test_help_explains_a_plugin(helped):
    shown = helped("fit", "--data.help=SparseLinear")
    for option in ("--data.active", "--data.noise", "--data.val_split", "--data.batches_per_round"):
        assert option in shown
    assert "mean number of active features a row" in shown


def test_help_has_a_line_for_each_command(here, capsys):
    with pytest.raises(SystemExit) as exited:
        main(["--help"])
    assert exited.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    found = {}
    for name in [*COMMANDS, "plugins", "report", "features", "cache", "export"]:
        (line,) = (line for line in lines if line.split()[:1] == [name])
        number = lines.index(line)
        found[name] = number, line.split()[1:]
    in_order = sorted(found, key=lambda name: found[name][0])
    expected = ["plugins", "measure", "report", "features", "cache"]
    assert in_order == [*expected, "fit", "validate", "test", "predict", "export"]
    numbers = sorted(number for number, _ in found.values())
    assert numbers == list(range(numbers[0], numbers[0] + 10))  # no line goes on in the next
    assert all(len(words) >= 4 for _, words in found.values())


@pytest.mark.parametrize(
    ("command", "explanation"),
    [("report", "Folder of a run of `sparsecode measure`"), ("export", "lightning_logs/.../checkpoints/*.ckpt")],
)
def test_help_explains_commands_on_files(helped, command, explanation):
    shown = helped(command, "--help")
    assert explanation in shown


def test_an_unknown_command_is_refused_with_those_that_there_are(here, capsys):
    with pytest.raises(SystemExit) as exited:
        main(["mesure"])
    assert exited.value.code == 2
    error = capsys.readouterr().err
    assert "mesure" in error
    assert "measure" in error.replace("mesure", "")

import re

from sparsecode_pl.cli import main
from sparsecode_pl.data import available_plugins


def test_plugins_lists_what_is_installed_with_a_line_each(here, capsys):
    main(["plugins"])
    shown = capsys.readouterr().out
    assert len(available_plugins()) >= 7
    assert "Rules out that" in shown
    for name, entry in available_plugins().items():
        assert re.search(rf"{name}\W+\w+", shown)
        assert entry.module.partition(".")[0][:20] in shown


def test_help_explains_plugins(helped):
    assert "plugins" in helped("plugins", "--help")

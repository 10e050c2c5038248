"""What the command adds to `fill_store`; whole runs are in tests/integration/test_cache.py."""

import pytest

from sparsecode_pl.cli import cache, main


def test_help_says_what_is_kept_and_how_to_resume(helped):
    shown = helped("cache", "--help")
    assert "Keep the activations of a model's layers on disk" in shown
    assert "run the same command again" in shown
    for option in ("--data", "--config"):
        assert option in shown


def test_an_interrupted_pass_says_how_to_go_on(here, monkeypatch, small):
    def interrupted(data):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "fill_store", interrupted)
    with pytest.raises(SystemExit) as exited:
        main(["cache", *small])
    assert "the finished shards are safe; run the same command again to resume" in exited.value.code


def test_data_that_keep_no_store_are_refused(refused, small):
    assert "SparseLinear keeps no store: give data that does, such as Trans" in refused("cache", *small)


def test_an_unknown_plugin_is_refused_with_the_nearest(refused):
    message = refused("cache", "--data=TransformerActivation")
    assert "no plugin is called 'TransformerActivation': did you mean TransformerActivations?" in message

import logging

from sparsecode_pl.utilities.quiet import quiet_fits, quiet_lightning

LOGGER = logging.getLogger("lightning.pytorch.utilities.rank_zero")


def test_devices_are_told_once_and_routine_and_advertisements_never(caplog):
    with caplog.at_level(logging.INFO, logger=LOGGER.name), quiet_fits():
        for _ in range(3):
            LOGGER.info("GPU available: in this test")
            LOGGER.info("Tip: For seamless cloud logging, buy this")
            LOGGER.info("`Trainer.fit` stopped: `max_epochs=2` reached.")
            LOGGER.info("something new")
    assert caplog.messages == ["GPU available: in this test", *["something new"] * 3]


def test_it_is_undone_at_the_end(caplog):
    before = list(LOGGER.filters)
    with quiet_fits():
        pass
    assert LOGGER.filters == before


def test_silencing_twice_adds_nothing():
    quiet_lightning()
    before = list(LOGGER.filters)
    quiet_lightning()
    assert LOGGER.filters == before

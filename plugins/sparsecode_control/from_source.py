"""Controls made from the rows of other data."""

from sparsecode_pl.data import ActivationDataModule, ControlActivations


class FromSource(ControlActivations):
    """A control that is made from the rows of its source, and so cannot be without one.

    Raises:
        ValueError: there is no source when the width or the rows are asked for.
    """

    @property
    def d_model(self) -> int:
        """Width of the activations, the source's."""
        return self.needed_source.d_model

    @property
    def needed_source(self) -> ActivationDataModule:
        """The source."""
        if self.source is None:
            raise ValueError(
                f"source is None, and {type(self).__name__} is made from other data: give --data.source, or list it "
                "under controls of `sparsecode measure`, which attaches the measured data"
            )
        return self.source

"""A dictionary that is not learnt."""

from sparsecode_pl.data import ActivationDataModule, Control


class RandomDictionary(Control):
    """The measured data itself, coded with random atoms that stay as they are: what learning them is worth."""

    random_dictionary = True

    def of(self, source: ActivationDataModule) -> ActivationDataModule:
        """The source."""
        return source

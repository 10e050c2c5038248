"""Other formats: autoencoders of SAELens and sparsify, and the JSON of Neuronpedia.

`load_autoencoder` reads a trained sparse autoencoder as a `Codec`, `export_saelens` writes a dictionary as one. While
this package is imported, SAELens knows the architecture `sparsecode_greedy`, whichever of the two is imported first.
SAELens itself is not imported here.
"""

import warnings

from sparsecode_pl.interchange.autoencoder import Autoencoder, DecoderCodec, Origin
from sparsecode_pl.interchange.hooks import hook_of_layer, layer_of_hook
from sparsecode_pl.interchange.loading import load_autoencoder
from sparsecode_pl.interchange.saelens import from_saelens
from sparsecode_pl.interchange.saelens_export import export_saelens
from sparsecode_pl.utilities.on_import import when_imported

__all__ = [
    "Autoencoder",
    "DecoderCodec",
    "Origin",
    "export_saelens",
    "from_saelens",
    "hook_of_layer",
    "layer_of_hook",
    "load_autoencoder",
]


def _register() -> None:
    try:
        from sparsecode_pl.interchange.saelens_sae import register
    except ImportError as error:  # an older SAELens must not keep anybody from importing it, or us
        warnings.warn(
            f"SAELens does not know the architecture sparsecode_greedy, because its version is too old ({error}): "
            'pip install "sae-lens>=6.54"',
            stacklevel=2,
        )
    else:
        register()


when_imported("sae_lens", _register)

"""The settings that activations depend on."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sparsecode_transformer.locate import locate_model
from sparsecode_transformer.model import DTYPES
from sparsecode_transformer.random_weights import Randomise, check_randomise
from sparsecode_transformer.sites import SiteKind
from sparsecode_transformer.text import TextSource


@dataclass(frozen=True)
class Recipe:
    """The settings of `TransformerActivations` that decide which activations there are, and in which order.

    Raises:
        FileNotFoundError: the model's folder or the text's file is not there.
        ValueError: a setting is out of its range.
    """

    model_name_or_path: str
    text: str
    layers: int | str | list[int | str]
    site: SiteKind
    num_activations: int | None
    split: str
    text_column: str
    streaming: bool
    max_documents: int | None
    text_revision: str | None
    context_length: int
    packing: bool
    keep_special: bool
    skip_first: int
    max_norm_ratio: float | None
    revision: str | None
    dtype: str
    trust_remote_code: bool
    random_weights: int | None
    randomise: Randomise
    batch_tokens: int
    store_dtype: str
    shard_rows: int

    def __post_init__(self) -> None:
        for name, least in (
            ("num_activations", 2),
            ("context_length", 2),
            ("batch_tokens", 1),
            ("random_weights", 0),
            ("shard_rows", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}: give at least {least}")
        check_randomise(self.randomise, self.random_weights)
        for name in ("dtype", "store_dtype"):
            if getattr(self, name) not in DTYPES:
                raise ValueError(f"{name} is {getattr(self, name)!r}: give one of {', '.join(DTYPES)}")
        if self.max_norm_ratio is not None and not self.max_norm_ratio > 1:
            raise ValueError(f"max_norm_ratio is {self.max_norm_ratio}: give a multiple of the median norm above 1")
        if not 0 <= self.skip_first < self.context_length:
            raise ValueError(
                f"skip_first is {self.skip_first}: give at least 0 and less than context_length, {self.context_length}"
            )
        if self.streaming and self.num_activations is None and self.max_documents is None:
            raise ValueError("streaming is true, and the text may be endless: give num_activations or max_documents")
        _ = self.model, self.source  # which check the names

    @property
    def model(self) -> str:
        """The model as transformers understands it."""
        return locate_model(self.model_name_or_path)

    @property
    def source(self) -> TextSource:
        """Where the text is read from."""
        return TextSource(
            self.text, self.split, self.text_column, self.streaming, self.max_documents, self.text_revision
        )

    def provenance(self) -> dict[str, Any]:
        """What makes these activations again from any working folder: `class_path` and `init_args`."""
        settings = asdict(self)
        if self.randomise == "all":
            del settings["randomise"]  # older stores do not have it, and are of the same activations
        for name in ("model_name_or_path", "text"):
            path = Path(settings[name]).expanduser()
            if path.exists():
                settings[name] = str(path.resolve())
        return {"class_path": "sparsecode_transformer.TransformerActivations", "init_args": settings}

"""The tokenizer of a model."""

from typing import TYPE_CHECKING

from sparsecode_transformer.model_files import model_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(model: str, revision: str | None = None) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model; no code of its repository is ever run.

    Args:
        model: a folder, or a name on the hub.
        revision: branch, tag or commit on the hub.

    Raises:
        FileNotFoundError: the model has none.
        Exception: whatever this kind of tokenizer raises if its files are wrong or it misses a package.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=False)
    # Without files, transformers may silently make up a tokenizer of special tokens only.
    files = tokenizer.vocab_files_names.values()
    if not any(model_file(model, name, revision) for name in files):
        raise FileNotFoundError(f"{model} holds none of {', '.join(sorted(files))}")
    return tokenizer

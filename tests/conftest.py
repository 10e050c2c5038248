"""Settings of the whole run, made before anything is imported that reads them."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach for the network
# Threads that wait spinning take the cores from processes beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from lightning import Trainer
from matplotlib.figure import Figure

from sparsecode_pl.callbacks import tensorboard_figures
from sparsecode_pl.data import StoreWriter, generator

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # GPU kernels run on the CPU, slowly


# A busy machine must not make a test fail.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the suites in tests/reliability in their long form")


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether the long form is asked for: many more cases, with the count of each outcome."""
    return bool(request.config.getoption("--long"))


# Remarks on runs that are small because they are tests; `pytest.warns` sees them all the same.
SMALL_RUNS = [
    ".*does not have many workers",
    "The number of training batches",
    "Be aware that when using `ckpt_path`",
    "The dirpath has changed",
    "lam has not settled",  # ours: the rounds are few
]


def pytest_configure(config: pytest.Config) -> None:
    for remark in SMALL_RUNS:
        config.addinivalue_line("filterwarnings", f"ignore:{remark}")


LAYERS = {"0": 3, "model.mlp": 5}
COLUMNS = ["token", "position"]


def _block(start: int, size: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    random = generator(start)
    rows = {layer: torch.randn(size, width, generator=random) for layer, width in LAYERS.items()}
    number = torch.arange(start, start + size)
    return rows, {"token": number, "position": -number}


def _fill(path: Path, shards: int = 3, finish: bool = True, **kwargs) -> None:
    with StoreWriter(path, LAYERS, COLUMNS, **kwargs) as writer:
        if writer.complete:
            return
        for shard in range(writer.num_shards, shards):
            for block in range(shard + 1):  # so that shards differ in length
                writer.append(*_block(100 * shard + 10 * block, 10))
            writer.end_shard()
        if finish:
            writer.finish(dropped=4)


def _whole(shards: int = 3) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    blocks = [_block(100 * shard + 10 * block, 10) for shard in range(shards) for block in range(shard + 1)]
    return (
        {layer: torch.cat([rows[layer] for rows, _ in blocks]) for layer in LAYERS},
        {name: torch.cat([columns[name] for _, columns in blocks]).int() for name in COLUMNS},
    )


@pytest.fixture
def quiet_trainer(tmp_path) -> Callable[..., Trainer]:
    """Makes trainers on one CPU that write and show nothing; any setting can be given, in place of these too."""
    return partial(
        Trainer,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )


@pytest.fixture(scope="module")
def empty_figures() -> Iterator[None]:
    """Gives TensorBoard empty figures: to draw them is most of a short fit, and is tested with the callback."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("coefficient_figure", "frequency_figure"):
            patch.setattr(tensorboard_figures, name, lambda *_: Figure(figsize=(1, 1)))
        yield


@pytest.fixture(scope="session")
def block() -> Callable:
    """Makes rows of two layers and two columns, which depend on the number of the first alone."""
    return _block


@pytest.fixture(scope="session")
def fill() -> Callable:
    """Writes, or goes on writing, a store of shards of 10, 20, 30 ... rows."""
    return _fill


@pytest.fixture(scope="session")
def whole() -> Callable:
    """What such a store must hold: all rows and all columns."""
    return _whole


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """All files of a folder."""
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def store(tmp_path) -> Path:
    """The folder of a complete store."""
    _fill(tmp_path / "store", source={"model": "tiny"})
    return tmp_path / "store"


WORDS = ["[PAD]", *("".join(letters) for letters in itertools.product("abcdefghij", repeat=2))]


@pytest.fixture(scope="session")
def word_model(tmp_path_factory) -> str:
    """The folder of a small Llama, with a tokenizer of words."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("model") / "llama"
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[PAD]"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]").save_pretrained(folder)  # noqa: S106
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.LlamaConfig(vocab_size=len(WORDS), max_position_embeddings=256, **sizes)
        transformers.LlamaModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def word_text(tmp_path_factory) -> str:
    """3,000 documents of 2 to 40 words."""
    random = generator(0)
    lengths = torch.randint(2, 41, (3000,), generator=random).tolist()
    documents = [
        " ".join(WORDS[i] for i in torch.randint(1, len(WORDS), (length,), generator=random)) for length in lengths
    ]
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(documents))
    return str(path)

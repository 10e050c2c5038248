import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from sparsecode_transformer.locate import locate_model
from sparsecode_transformer.model import load_model
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

V, D, L = 40, 8, 3
SIZES = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": L, "num_attention_heads": 2}
LLAMA = {**SIZES, "intermediate_size": 12, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**SIZES, intermediate_size=12),
    "llama": lambda: transformers.LlamaConfig(**LLAMA),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=V, n_embd=D, n_layer=L, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0
    ),
    "neox": lambda: transformers.GPTNeoXConfig(**SIZES, intermediate_size=12, bos_token_id=0, eos_token_id=0),
    "opt": lambda: transformers.OPTConfig(**SIZES, ffn_dim=12, word_embed_proj_dim=D),
    "bloom": lambda: transformers.BloomConfig(vocab_size=V, hidden_size=D, n_layer=L, n_head=2),
    "falcon": lambda: transformers.FalconConfig(**SIZES, bos_token_id=0, eos_token_id=0),
    "t5": lambda: transformers.T5Config(vocab_size=V, d_model=D, d_kv=4, d_ff=12, num_layers=L, num_heads=2),
}


@pytest.fixture(scope="session")
def tiny_models() -> dict[str, PreTrainedModel]:
    """Small models of many architectures, with random weights that are large enough for every part to matter."""
    models = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, config in CONFIGS.items():
            whole = transformers.AutoModel.from_config(config())
            model = (whole.get_encoder() if whole.config.is_encoder_decoder else whole).eval().requires_grad_(False)
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.normal_(0, 0.3)
            models[name] = model
    return models


@pytest.fixture(params=CONFIGS)
def tiny(request, tiny_models) -> PreTrainedModel:
    """Every one of the small models."""
    return tiny_models[request.param]


@pytest.fixture
def saved_llama(tmp_path, tiny_models) -> Path:
    """The folder of the small Llama."""
    tiny_models["llama"].save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask of three sequences, one of them padded."""
    ids = torch.randint(3, V, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return ids, mask


DOCUMENTS = [
    "Once upon a time there was a little car named Beep. Beep loved to go fast, and he was happy.",
    "A cat.",
    "Maolain, a name of an Irish lord of Gaileang Breagh in the 12th century, is said to mean 'bald'.",
    "世界 ☃ naïve",
    "He said: it was not difficult for them because they were sharing and helping each other again and again.",
]


@pytest.fixture(scope="session")
def documents() -> list[str]:
    """Short texts, the next to last one of rare characters."""
    return DOCUMENTS


@pytest.fixture(scope="session")
def llama(stories) -> PreTrainedTokenizerBase:
    """A tokenizer that begins with BOS, and pads with EOS."""
    return AutoTokenizer.from_pretrained(stories)


@pytest.fixture(scope="session")
def wordpiece(minilm) -> PreTrainedTokenizerBase:
    """A tokenizer that adds CLS and SEP; truncation and padding to 128 are set in its file."""
    return AutoTokenizer.from_pretrained(locate_model(minilm))


@pytest.fixture(scope="session")
def gpt2() -> PreTrainedTokenizerBase:
    """A byte-level BPE as GPT-2's: one special token for everything, and none is added."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    backend.train_from_iterator(DOCUMENTS, trainer)
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=16, **names)


@pytest.fixture(scope="session")
def slow() -> PreTrainedTokenizerBase:
    """A tokenizer in Python, of bytes; adds EOS."""
    return ByT5Tokenizer(extra_ids=0)


@pytest.fixture(params=["llama", "wordpiece", "gpt2", "slow"])
def tokenizer(request) -> PreTrainedTokenizerBase:
    """Each kind of tokenizer in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def real_texts(stories) -> list[str]:
    """200 real stories."""
    lines = Path(stories, "../text/tinystories_1000.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines[:200]]


def _save_small(folder: Path, tokenizer: PreTrainedTokenizerBase, plant: Callable[[PreTrainedModel], None]) -> str:
    config = transformers.LlamaConfig(**LLAMA | {"vocab_size": len(tokenizer), "max_position_embeddings": 256})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.LlamaModel(config)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.normal_(0, 0.3)
            plant(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def save_small(gpt2) -> Callable[..., str]:
    """Saves a Llama of three blocks and width 8 with a tokenizer, and what is planted in it; gives the folder."""
    return lambda folder, plant=lambda model: None: _save_small(folder, gpt2, plant)


@pytest.fixture(scope="session")
def small(tmp_path_factory, save_small) -> str:
    """The folder of that model."""
    return save_small(tmp_path_factory.mktemp("small") / "llama")


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> str:
    """A file of 80 documents of many lengths, 2,000 tokens or so of the small model; a Q stands in three."""
    words = " ".join(document for document in DOCUMENTS if document.isascii()).split()
    random = torch.Generator().manual_seed(0)
    lengths = (torch.randn(80, generator=random) * 0.8 + 2).exp().long() + 2
    lines = [" ".join(words[i] for i in torch.randint(len(words), (n,), generator=random)) for n in lengths]
    for number in (4, 41, 60):
        lines[number] += " Q"
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def passes(monkeypatch) -> list[tuple[int, ...]]:
    """The shapes of the tokens in each forward pass of the models that are loaded from now on."""
    shapes: list[tuple[int, ...]] = []

    def load(*args, **kwargs) -> PreTrainedModel:
        model = load_model(*args, **kwargs)
        model.register_forward_pre_hook(
            lambda _, __, inputs: shapes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
        )
        return model

    monkeypatch.setattr("sparsecode_transformer.text_capture.load_model", load)
    return shapes

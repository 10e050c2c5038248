"""What the evaluation of one codec in a model costs beside two plain forward passes plus the coding, in one run.

The model is stories260K, the layer 3, the text 1,000 stories. A dictionary of 512 atoms is learnt from part of them.
The evaluation is `model_loss` with that dictionary's reconstruction alone: a pass with the activations as they are, one
with them replaced, cross-entropy, KL and the bootstrap. It is held against two passes of the bare model over the same
batches and the coding of the same activations. Loading and tokenising are not included. Prints the least times over
alternating repeats and their ratio, and what the model loses in each arm, and writes results/bench_loss.json.
"""

import tempfile
from pathlib import Path

import torch
from record import seconds, write
from sparsecode_transformer import TransformerActivations

from sparsecode_pl import Dictionary, SparseCodingModule, measure
from sparsecode_pl.analysis.loss import codec_arm, codec_loss, heldout_documents, model_loss
from sparsecode_pl.coding import LassoCoder
from sparsecode_pl.data import Passage

REPEATS = 9
DATA = Path(__file__).parents[2] / "shared" / "data"
LAYER, ACTIVATIONS = 3, 60_000
EXPANSION, BATCHES = 8, 200


def learn(data: TransformerActivations) -> Dictionary:
    """Learn a dictionary of the layer as `sparsecode measure` does."""
    with tempfile.TemporaryDirectory() as folder:
        module = SparseCodingModule(d_model=data.d_model, expansion=EXPANSION)
        return measure(module, data, folder=folder)[0].dictionary


def times(data: TransformerActivations, dictionary: Dictionary) -> dict[str, list[float]]:
    """Seconds of the evaluation, of two bare passes, and of the coding, in turn."""
    rerun, arm = data.source.rerun, codec_arm(dictionary)
    documents, _ = heldout_documents(data)
    passages: list[Passage] = list(rerun.passages(documents))
    model = data.source.capture.whole.model
    states: list[torch.Tensor] = []

    def keep(x: torch.Tensor) -> torch.Tensor:
        states.append(x)
        return x

    for passage in passages:
        rerun(passage, keep)

    @torch.no_grad()
    def bare() -> None:
        for _ in range(2):
            for passage in passages:
                model(input_ids=passage.input_ids, attention_mask=passage.attention_mask, use_cache=False)

    def coding() -> None:
        for x in states:
            arm(x)

    def evaluation() -> None:
        model_loss(rerun, {"dictionary": arm}, documents)

    found: dict[str, list[float]] = {"evaluation": [], "two_passes": [], "coding": []}
    for repeat in range(REPEATS + 1):
        for name, call in zip(found, (evaluation, bare, coding), strict=True):
            took = seconds(call).wall
            if repeat:  # the first warms up
                found[name].append(took)
    return found


def main() -> None:
    """Run the benchmark."""
    data = TransformerActivations(
        str(DATA / "stories260K"),
        str(DATA / "text" / "tinystories_1000.jsonl"),
        layers=LAYER,
        num_activations=ACTIVATIONS,
        device="cpu",
        batches_per_round=BATCHES,
        val_split=0.2,
    )
    dictionary = learn(data)
    found = times(data, dictionary)
    least = {name: min(each) for name, each in found.items()}
    ratio = least["evaluation"] / (least["two_passes"] + least["coding"])
    report = codec_loss(dictionary, data, others={"exact codes": dictionary.bind(LassoCoder())})
    print(
        ", ".join(f"{name} {value:.3f} s" for name, value in least.items())
        + f"; ratio {ratio:.2f}, over {report.tokens:,} tokens of {report.documents} documents"
    )
    for arm, figures in report.arms.items():
        print(f"{arm}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    settings = {"layer": LAYER, "num_activations": ACTIVATIONS, "expansion": EXPANSION, "repeats": REPEATS}
    results = {"least_seconds": least, "ratio": ratio, "all_seconds": found, "loss": report.plain()}
    write("bench_loss", results, settings, packages=("torch", "transformers"))


if __name__ == "__main__":
    main()

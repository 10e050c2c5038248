"""A whole fit on a busy machine, from Python and from the command line.

The paper's synthetic setting at a = 10, as in bench_fit.py, in a separate process each time: alone, beside one process
that keeps one core busy, and beside a numerical job with two threads (matrix products in PyTorch). Seconds are measured
from the start of training to the last score, without loading. Conditions alternate, so that all see the same machine.
Prints medians and their ratios to the fit alone, and writes results/bench_busy.json.

    python benchmarks/bench_busy.py [--against FOLDER] [--repeats N]

With --against, runs alternate between another checkout of this repository and this one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from record import write

HERE = Path(__file__).parents[1]
DATA = {"active": 10.0, "d_model": 256, "num_features": 1024, "noise": 0.1, "num_samples": 20_480, "val_split": 0.2}
NUM_ATOMS = 2048
# Maximum time of a fit, relative to the fit alone.
TARGETS = {"one busy process": 2.0, "numerical job of two threads": 2.5}
# They end with this process, however it ends.
LOOP = "\nimport os\nparent = os.getppid()\nwhile os.getppid() == parent: "
OTHERS = {
    "alone": None,
    "one busy process": LOOP + "pass",
    "numerical job of two threads": "import torch; torch.set_num_threads(2); a = torch.randn(1500, 1500)"
    + LOOP
    + "a @ a",
}
FROM_PYTHON = f"""
import json, logging, tempfile, time, warnings
from pathlib import Path
import sparsecode_pl  # before PyTorch, so that its threads do not spin for long
from sparsecode_synthetic import SparseLinear
from sparsecode_pl import SparseCodingModule
from sparsecode_pl.measurement.trainer import default_trainer
warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
data = SparseLinear(**{DATA})
data.prepare_data()
data.setup("fit")
module = SparseCodingModule(data.d_model, num_atoms={NUM_ATOMS})
with tempfile.TemporaryDirectory() as folder:
    trainer = default_trainer(module, Path(folder) / "run", enable_progress_bar=False, accelerator="cpu")
    start = time.perf_counter()
    trainer.fit(module, datamodule=data)
    print(json.dumps(time.perf_counter() - start))
"""
COMMAND = "from sparsecode_pl.cli import main; main()"


def environment(root: Path) -> dict[str, str]:
    """Environment variables with which Python finds the packages of a checkout."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (root, root / "plugins")))}


def from_python(root: Path) -> float:
    """Seconds of a fit in a script."""
    call = [sys.executable, "-c", FROM_PYTHON]
    done = subprocess.run(call, env=environment(root), cwd=root, check=True, stdout=subprocess.PIPE)  # noqa: S603
    return float(json.loads(done.stdout.splitlines()[-1]))


def from_command(root: Path) -> float:
    """Seconds of a fit by `sparsecode measure`, from its record."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["measure", "--data", "SparseLinear", "--model.num_atoms", str(NUM_ATOMS), "--output", folder]
        options += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
        options += [word for name, value in DATA.items() for word in (f"--data.{name}", str(value))]
        call = [sys.executable, "-W", "ignore", "-c", COMMAND, *options]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(call, env=environment(root), cwd=root, check=True, **quiet)  # noqa: S603
        (path,) = Path(folder).glob("version_*/results.json")
        return float(json.loads(path.read_text())["results"][0]["seconds"])


@contextmanager
def beside(program: str | None) -> Iterator[None]:
    """Run a Python program in another process meanwhile."""
    other = None if program is None else subprocess.Popen([sys.executable, "-c", program])  # noqa: S603
    try:
        yield
    finally:
        if other is not None:
            other.kill()
            other.wait()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", type=Path, help="another checkout, to alternate with this one")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    roots = {"this": HERE}
    if arguments.against is not None:
        roots["against"] = arguments.against.absolute()
    ways = {"Python": from_python, "command": from_command}
    for root in roots.values():
        from_python(root)  # compiles
    found: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(arguments.repeats):
        for way, fit in ways.items():
            for name, program in OTHERS.items():
                for checkout, root in roots.items():
                    with beside(program):
                        found.setdefault((way, name, checkout), []).append(fit(root))
    results = []
    for (way, name, checkout), seconds in found.items():
        middle = statistics.median(seconds)
        ratio = middle / statistics.median(found[way, "alone", checkout])
        result = {"from": way, "beside": name, "checkout": checkout, "seconds": seconds, "times_alone": ratio}
        target = TARGETS.get(name)
        results.append({**result, "target": target})
        print(
            f"{way}, {name}, {checkout}: {middle:.1f} s ({min(seconds):.1f} to {max(seconds):.1f}), "
            f"{ratio:.2f} x alone" + (f", target: at most {target:g} x" if target else "")
        )
    settings = {"data": DATA, "num_atoms": NUM_ATOMS, "repeats": arguments.repeats}
    write("bench_busy", results, settings, packages=("torch", "lightning", "numba"))


if __name__ == "__main__":
    main()

"""How well the scores follow the truth: the paper's figure 1(a) and beyond, with fixed rows and with a stream.

The paper's synthetic data (d = 256, 1,024 features, noise 0.1, 2,048 atoms) with a growing number of active features.
Dictionaries are learnt from 16,384 rows or from a stream, with the default schedule. Writes results/bench_plateau.json
and docs/plateau.png.
"""

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from record import write
from sparsecode_synthetic import SparseLinear

from sparsecode_pl import SparseCodingModule
from sparsecode_pl.measurement.fit import measure_subject
from sparsecode_pl.measurement.subjects import prepare
from sparsecode_pl.measurement.trainer import default_trainer

ACTIVE = (5, 10, 20, 40, 64, 80)
MODES = {"fixed": "16,384 fixed rows", "stream": "stream"}
PICTURE = Path(__file__).parent.parent / "docs" / "plateau.png"


def fit(active: float, stream: bool) -> dict[str, Any]:
    """The record of one fit."""
    paper = {"d_model": 256, "num_features": 1024, "noise": 0.1, "num_samples": 20_480, "val_split": 0.2}
    data = SparseLinear(active=active, stream=stream, **paper)
    (subject,) = prepare(SparseCodingModule(256, num_atoms=2048), data)
    with tempfile.TemporaryDirectory() as folder:

        def trainer(module: SparseCodingModule, path: Path) -> Any:
            return default_trainer(module, path, enable_progress_bar=False, accelerator="cpu")

        return measure_subject(subject, Path(folder) / "run", trainer, seeds=1, explained_variance=None, exact=False)


def draw(results: list[dict[str, Any]]) -> None:
    """S1, L_norm and the mean cosine with the true features against a/2."""
    figure = Figure(figsize=(11, 4), dpi=140, layout="constrained")
    panels = figure.subplots(1, 3)
    names = {"heldout_S1": "S1", "heldout_L_norm": "L_norm", "atom_recovery": "mean cosine of the true features"}
    for axes, (key, title) in zip(panels, names.items(), strict=True):
        for mode, colour in (("fixed", "#64748b"), ("stream", "#c2410c")):
            rows = [row for row in results if row["mode"] == mode]
            x = [row["active"] / 2 for row in rows]
            axes.plot(x, [row[key] for row in rows], "o-", color=colour, label=MODES[mode])
        if key != "atom_recovery":
            rows = [row for row in results if row["mode"] == "stream"]
            x = [row["active"] / 2 for row in rows]
            axes.plot(x, x, ":", color="#0f766e", label="a/2, the paper's truth")
            axes.plot(x, [row["oracle_S1"] for row in rows], "-", lw=1, color="#0f766e", label="S1 of the true codes")
        axes.set(title=title, xlabel="a/2")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[2].set_ylim(0, 1.02)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("Scores of fresh rows against the number of active features")
    figure.savefig(PICTURE)


def main() -> None:
    """Run the benchmark."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    results = []
    for active in ACTIVE:
        for mode in MODES:
            record = fit(active, stream=mode == "stream")
            results.append({"mode": mode, "active": active, **record})
            print(
                f"a/2 = {active / 2:g}, {MODES[mode]}: S1 {record['heldout_S1']:.3g} (true codes "
                f"{record['oracle_S1']:.3g}), L_norm {record['heldout_L_norm']:.3g}, cosine "
                f"{record['atom_recovery']:.3f}, lam {record['lam']:.3f}, {record['seconds']:.0f} s"
            )
    write("bench_plateau", results, packages=("torch", "lightning", "numba"))
    draw(results)


if __name__ == "__main__":
    main()

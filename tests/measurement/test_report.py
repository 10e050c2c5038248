import math
from io import StringIO

import pytest
from PIL import Image
from rich.console import Console

from sparsecode_pl.measurement.picture import draw
from sparsecode_pl.measurement.report import print_table


def record(name, s1=3.0, heldout=True, **more):
    scores = {"S1": s1, "L_norm": 1.3 * s1, "N0": 4 * s1, "L": 0.1, "explained_variance": 0.9}
    both = scores | ({f"heldout_{key}": 1.1 * value for key, value in scores.items()} if heldout else {})
    counts = {"num_samples": 1800, **({"heldout_num_samples": 200} if heldout else {})}
    return {"data": name, **both, **counts, "lam": 0.05, "atoms_alive": 60, "num_atoms": 64, "seconds": 12.3} | more


def printed(records):
    console = Console(file=StringIO(), width=140)
    print_table(records, console)
    return console.file.getvalue()


def test_the_table_names_the_data_and_gives_its_figures():
    text = printed([record("SparseLinear a=5", 2.84), record("Gaussian", 29.5, control_of="SparseLinear a=5", S1_ratio=0.096, heldout_S1_ratio=0.1)])
    data, control = (" ".join(line.split()) for line in text.splitlines() if "2.84" in line or "29.5" in line)
    assert data == "SparseLinear a=5 2.84 / 3.12 3.69 / 4.06 11.4 / 12.5 0.900 / 0.990 0.05 60 12"
    assert control.startswith("Gaussian 29.5 / 32.5")
    assert "0.10 / 0.10" in control
    assert "Training rows / held-out rows: 1,800 / 200; 64 atoms" in text


def test_the_table_tells_the_known_truth():
    text = printed([record("SparseLinear", half_active=2.5, oracle_S1=3.104, atom_recovery=0.9971)])
    assert "a/2 = 2.5" in text
    assert "3.1" in text
    assert "0.997" in text
    assert "Known truth" not in printed([record("Gaussian")])


def test_training_rows_alone_are_not_called_so_in_every_row():
    text = printed([record("Gaussian", heldout=False)])
    assert "held out" not in text
    assert "1,800 training rows; 64 atoms" in text


def test_a_figure_that_is_missing_or_not_a_number_is_no_crash():
    text = printed([record("x", math.nan), record("y", heldout=False, S1_ratio=math.nan)])
    assert "nan" in text


def test_long_names_are_folded_not_cut():
    name = "TokenEmbeddings sentence-transformers/all-MiniLM-L6-v2 of a very long name indeed"
    text = printed([record(name)])
    for word in name.replace("/", " ").replace("-", " ").split():
        assert word in text


@pytest.mark.parametrize(
    "records",
    [
        [record("data"), record("control", 30.0)],
        [record("data", spread={"S1": 0.2, "heldout_L_norm": 0.1}), record("control", heldout=False)],
        [record("data", half_active=2.5, oracle_S1=3.1, atom_recovery=0.99)],
        [record("data", math.nan), record("control", math.nan)],
        [record("data", heldout=False)],
    ],
    ids=["plain", "spread", "truth", "nan", "training rows"],
)
@pytest.mark.filterwarnings("error")
def test_a_picture_is_drawn_of_any_records(records, tmp_path):
    draw(records, tmp_path / "sparsity.png")
    with Image.open(tmp_path / "sparsity.png") as image:
        assert image.format == "PNG"
        assert image.width > 1000
        shades = image.convert("L").histogram()
    assert sum(shades[:250]) > 5000  # something is drawn on the white

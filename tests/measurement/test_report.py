import math
from io import StringIO

import pytest
from PIL import Image
from rich.console import Console

from sparsecode_pl.measurement.picture import draw, draw_layers
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
    text = printed(
        [
            record("SparseLinear a=5", 2.84),
            record("Gaussian", 29.5, control_of="SparseLinear a=5", S1_ratio=0.096, heldout_S1_ratio=0.1),
        ]
    )
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


def layer(name, s1=3.0, model="Tiny", **more):
    """A measured layer and its control."""
    place = {"model": model, "layer": name}
    measured = record(f"{model} layer {name}", s1, **place, **more)
    ratios = {"S1_ratio": s1 / 30, "heldout_S1_ratio": s1 / 33}
    return [measured, record("Gaussian", 30.0, **place, control_of=measured["data"], **ratios)]


def failed(name, model="Tiny", **more):
    return {
        "data": f"{model} layer {name}",
        "model": model,
        "layer": name,
        **more,
        "error": "OSError: the disk is gone",
    }


def squeezed(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_table_of_layers_names_each_once_and_its_controls_below():
    lines = squeezed(printed([*layer("0", 2.84), *layer("10", 5.0), *layer("2", 6.0)]))
    rows = [line for line in lines if " / " in line and line[0] != "T"]
    assert [row.split()[:2] for row in rows] == [
        ["0", "Tiny"],
        ["Gaussian", "30.0"],
        ["10", "Tiny"],
        ["Gaussian", "30.0"],
        ["2", "Tiny"],
        ["Gaussian", "30.0"],
    ]
    assert rows[0] == "0 Tiny 2.84 / 3.12 3.69 / 4.06 11.4 / 12.5 0.900 / 0.990 0.05 60 12"
    assert "0.09 / 0.09" in rows[1]
    assert "How sparse are the layers of Tiny?" in lines
    assert "S1 ratio: S1 of the data over S1 of the control." in lines


def test_long_names_of_layers_are_shown_whole():
    names = ["model.layers.3.mlp", "model.layers.11.self_attn.o_proj"]
    text = printed([line for name in names for line in layer(name, model="a/model-with-a-long-name-3b")])
    column = "".join(line[1:36].partition("  ")[0] for line in text.splitlines())
    for name in names:
        assert name in column
    assert "seconds" in text
    assert text.count("0.10 / 0.09") == 2  # no figure is cut off for them


def test_layers_of_several_models_and_of_several_widths():
    lines = squeezed(printed([*layer("0"), *layer("0", model="Other", num_atoms=128, num_samples=90)]))
    assert "How sparse are the layers of Tiny, Other?" in lines
    assert any("1,800 / 200 and others; 64 to 128 atoms." in line for line in lines)


def test_a_layer_that_failed_says_so_and_the_others_keep_their_figures():
    control = failed("1") | {"data": "Gaussian", "control_of": "Tiny layer 1"}
    lines = squeezed(printed([*layer("0", 2.84), failed("1"), control]))
    assert any(line.startswith("0 Tiny 2.84 / 3.12") for line in lines)
    assert "1 Tiny failed" in lines
    assert "Gaussian failed" in lines
    assert "Tiny layer 1 failed: OSError: the disk is gone" in lines
    assert "Gaussian, control of Tiny layer 1, failed: OSError: the disk is gone" in lines


def test_brackets_in_names_and_errors_are_no_markup():
    broken = failed("1") | {"error": "KeyError: no [bold] in [/models]"}
    text = printed([*layer("[red]0"), broken, record("[/data]", model="m", layer="1")])
    for words in ("[red]0", "no [bold] in [/models]"):
        assert words in text
    assert "[/data]" in printed([record("[/data]")])


def test_a_table_of_failures_alone_is_no_crash():
    assert "failed: OSError: the disk is gone" in printed([failed("0")])


LONG = "encoder.layer.11.attention.output"


def drawn(records, path):
    """Width and height of the picture, after which something is on it."""
    draw(records, path / "sparsity.png")
    with Image.open(path / "sparsity.png") as image:
        assert image.format == "PNG"
        shades = image.convert("L").histogram()
        assert sum(shades[:250]) > 5000
        return image.size


@pytest.mark.parametrize(
    "records",
    [
        [*layer("0"), *layer("1"), *layer("2")],
        [*layer("0"), *layer("1", model="Other"), *layer("0", model="Other")],
        [*layer(LONG), *layer(LONG + ".dense")],
        [*layer("0", math.nan), *layer("1")],
        [*layer("0"), failed("1"), *layer("2")],
        [*layer("0"), *layer("1", spread={"S1": 0.1, "heldout_S1": 0.2})],
        [record("a", model="m", layer=str(n), heldout=False) for n in range(4)],
        [*layer("0"), *layer("1")[:1]],
    ],
    ids=["plain", "models", "long names", "nan", "failed", "spread", "training rows", "a control is missing"],
)
@pytest.mark.filterwarnings("error")
def test_layers_are_drawn_one_beside_the_other(records, tmp_path):
    _, height = drawn(records, tmp_path)
    assert height > 1000


@pytest.mark.filterwarnings("error")
def test_a_single_layer_is_drawn_as_bars_and_so_is_data_that_is_no_layer(tmp_path):
    bars = drawn([record("x"), record("Gaussian", 30.0, control_of="x")], tmp_path)
    assert drawn(layer("3"), tmp_path) == bars
    assert drawn([record("x"), record("y")], tmp_path) == bars
    assert drawn([*layer("3")[:1], record("y")], tmp_path) == bars
    assert drawn([*layer("3"), *layer("4")], tmp_path) != bars


def test_where_nothing_was_measured_there_is_no_picture(tmp_path):
    draw([failed("0")], tmp_path / "sparsity.png")
    assert not list(tmp_path.iterdir())


def test_the_lines_of_the_picture_are_the_figures_of_the_layers():
    figure = draw_layers([*layer("0", 2.0), failed("1"), *layer("2", 5.0)])
    for axes, scale in zip(figure.axes[:2], (1, 1.3), strict=True):
        lines = {line.get_label(): line.get_ydata().tolist() for line in axes.get_lines()}
        measured = next(values for label, values in lines.items() if "training rows" in label)
        assert measured == pytest.approx([2 * scale, math.nan, 5 * scale], nan_ok=True)
        assert next(v for label, v in lines.items() if "held-out rows" in label) == pytest.approx(
            [2.2 * scale, math.nan, 5.5 * scale], nan_ok=True
        )
        control = next(values for label, values in lines.items() if label.startswith("Gaussian"))
        assert control == pytest.approx([30 * scale, math.nan, 30 * scale], nan_ok=True)
        assert axes.get_xlim()[1] > 2
    assert [label.get_text() for label in figure.axes[2].get_xticklabels()] == ["0", "1", "2"]


@pytest.mark.parametrize(
    "records",
    [
        [record("data"), record("control", 30.0)],
        [record("data", spread={"S1": 0.2, "heldout_L_norm": 0.1}), record("control", heldout=False)],
        [record("data", half_active=2.5, oracle_S1=3.1, atom_recovery=0.99)],
        [record("data", math.nan), record("control", math.nan)],
        [record("data", heldout=False)],
        [record("data", coding_gap=0.1, exact_S1=3.3, heldout_exact_S1=math.nan), failed("1"), record("control")],
    ],
    ids=["plain", "spread", "truth", "nan", "training rows", "exact"],
)
@pytest.mark.filterwarnings("error")
def test_a_picture_is_drawn_of_any_records(records, tmp_path):
    draw(records, tmp_path / "sparsity.png")
    with Image.open(tmp_path / "sparsity.png") as image:
        assert image.format == "PNG"
        assert image.width > 1000
        shades = image.convert("L").histogram()
    assert sum(shades[:250]) > 5000  # something is drawn on the white

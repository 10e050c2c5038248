import math
from io import StringIO

import pytest
from PIL import Image
from rich.console import Console

from sparsecode_pl.measurement.picture import draw, draw_layers
from sparsecode_pl.measurement.report import print_table


def record(name, s1=3.0, heldout=True, unseen=False, **more):
    """A record; scores of held-out rows are 1.1 times those of training rows, and of unseen tokens 1.05 times."""
    scores = {"S1": s1, "L_norm": 1.3 * s1, "N0": 4 * s1, "L": 0.1, "explained_variance": 0.9}
    counts = {"num_samples": 1800}
    every = dict(scores)
    for kind, there, times, number in (("heldout", heldout, 1.1, 200), ("unseen", unseen, 1.05, 100)):
        if there:
            every |= {f"{kind}_{key}": times * value for key, value in scores.items()}
            counts[f"{kind}_num_samples"] = number
    return {"data": name, **every, **counts, "lam": 0.05, "atoms_alive": 60, "num_atoms": 64, "seconds": 12.3} | more


def text_record(name="words", s1=3.0, **more):
    """A record of text, with what is told of its tokens."""
    facts = {"num_distinct": 2000, "num_types": 300, "heldout_seen_share": 0.87, "num_copies": 5}
    means = {"token_explained_variance": 0.9, "heldout_token_explained_variance": 0.712}
    return record(name, s1, unseen=True, **facts, **means) | more


def printed(records, width=140):
    console = Console(file=StringIO(), width=width)
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
    assert data == "SparseLinear a=5 2.84 3.12 4.06 12.5 0.990 0.05 60 12"
    assert control == "Gaussian 29.5 32.5 0.10 42.2 130 0.990 0.05 60 12"
    assert "L_norm, N0 and explained variance are those of held-out rows." in text
    assert "S1 of the data over S1 of the control, of held-out rows." in text
    assert "Training rows / held-out rows: 1,800 / 200; 64 atoms" in text


def headings(text):
    """The words above each column, by the column's place."""
    above = text[: text.index("\u2500\u2500")].splitlines()[1:]
    return " ".join(" ".join(above).split())


def test_each_kind_of_rows_has_a_column_of_s1():
    text = printed([text_record(s1=2.0), text_record("Gaussian", 20.0, control_of="words", unseen_S1_ratio=0.1)])
    for heading in ("training", "held-out", "unseen", "tokens", "ratio", "L_norm", "N0", "means,"):
        assert heading in headings(text)
    lines = squeezed(text)
    assert "words 2.00 2.20 2.10 2.73 8.40 0.945 71.2 0.05 60 12" in lines
    assert "Gaussian 20.0 22.0 21.0 0.10 27.3 84.0 0.945 71.2 0.05 60 12" in lines
    assert "L_norm, N0 and explained variance are those of unseen tokens." in text
    assert "of unseen tokens." in next(line for line in lines if line.startswith("S1 ratio"))
    assert "unseen" not in headings(printed([record("x")]))
    assert "held-out" not in headings(printed([record("x", heldout=False)]))


INTERVALS = {"S1": (1.5, 2.5), "heldout_S1": (1.81, 2.62), "unseen_S1": (1.72, 2.53), "unseen_S1_ratio": (0.05, 0.21)}


def test_intervals_stand_beside_the_most_telling_rows_where_there_is_room():
    records = [
        text_record(s1=2.0, intervals=INTERVALS),
        text_record("Gaussian", 20.0, control_of="words", unseen_S1_ratio=0.1, intervals=INTERVALS),
    ]
    for width in (120, 140):
        text = printed(records, width)
        assert "2.10 [1.72, 2.53]" in text
        assert "0.10 [0.05, 0.21]" in text
        assert "[1.5" not in text  # those of the other rows are in the files
        assert "[1.81" not in text
    narrow = printed(records, 119)
    assert "[1.7" not in narrow
    assert "2.10" in narrow
    assert "[ ]: 95 % interval" in printed(records)
    assert "from resampling token types." in printed(records)
    assert "token types" not in printed([record("x", intervals=INTERVALS)])
    assert "[ ]" not in printed([record("x")])


def test_the_penalty_is_that_of_the_rows_whose_scores_are_shown():
    """At a share of the variance each kind of rows has its own."""
    own = {"lam": 0.05, "heldout_lam": 0.04, "unseen_lam": 0.031}
    (line,) = (line for line in squeezed(printed([text_record(s1=2.0, **own)])) if line.startswith("words"))
    assert line.endswith("71.2 0.031 60 12")


def test_the_scores_at_several_shares_are_a_table_of_their_own():
    def levels(scores):
        return [
            {"share": share, "S1": 1.0, "heldout_S1": s1, "intervals": {"heldout_S1": (s1 - 0.5, s1 + 0.5)}}
            for share, s1 in scores.items()
        ]

    data = record("x", frontier=levels({0.8: 2.0, 0.95: 4.0}))
    control = record("Gaussian", 30.0, control_of="x", frontier=levels({0.8: 20.0}))
    lines = squeezed(printed([data, control, record("y")], 100))
    title = next(number for number, line in enumerate(lines) if line.startswith("S1 of held-out rows where the codes"))
    below = lines[title + 1 :]
    assert next(line for line in below if line.startswith("data")) == "data 0.8 0.95"
    assert next(line for line in below if line.startswith("x")) == "x 2.00 [1.50, 2.50] 4.00 [3.50, 4.50]"
    assert next(line for line in below if line.startswith("Gaussian")) == "Gaussian 20.0 [19.5, 20.5]"
    assert not any(line.startswith("y ") for line in below)
    assert "where the codes explain" not in printed([record("x")])


def test_the_notes_tell_of_unseen_tokens_and_of_repetition():
    lines = squeezed(printed([text_record()]))
    rows = "Training rows / held-out rows / unseen tokens: 1,800 / 200 / 100; 300 token types, 2,000 different rows in"
    assert any(line.startswith(rows) for line in lines)
    assert "Of the rows in held-out documents, 87% are of tokens that were trained on." in lines
    hint = "repetition alone reads as sparsity: add --controls+=RepeatedGaussian"
    assert hint in " ".join(lines)
    repeated = record("RepeatedGaussian", 2.0, unseen=True, control_of="words")
    assert hint not in " ".join(squeezed(printed([text_record(), repeated])))
    assert hint not in " ".join(squeezed(printed([record("x")])))  # which has no tokens


def test_where_every_row_is_a_type_of_its_own_the_notes_say_that_held_out_is_unseen():
    text = printed([record("embeddings", num_distinct=2000, num_types=2000, heldout_seen_share=0.0)])
    assert "Held-out rows are unseen tokens: no row of their token types was trained on." in text
    assert "are of tokens that were trained on" not in text


def test_copies_among_rows_without_tokens_are_told():
    assert "; 50 different rows in all; 64 atoms." in printed([record("x", num_distinct=50)])
    assert "different rows" not in printed([record("x", num_distinct=2000)])


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
    rows = [line for line in lines if line.endswith(" 0.05 60 12")]
    assert [row.split()[:2] for row in rows] == [
        ["0", "Tiny"],
        ["Gaussian", "30.0"],
        ["10", "Tiny"],
        ["Gaussian", "30.0"],
        ["2", "Tiny"],
        ["Gaussian", "30.0"],
    ]
    assert rows[0] == "0 Tiny 2.84 3.12 4.06 12.5 0.990 0.05 60 12"
    assert rows[1] == "Gaussian 30.0 33.0 0.09 42.9 132 0.990 0.05 60 12"
    assert "How sparse are the layers of Tiny?" in lines
    assert "S1 ratio: S1 of the data over S1 of the control, of held-out rows." in lines


def test_long_names_of_layers_are_shown_whole():
    names = ["model.layers.3.mlp", "model.layers.11.self_attn.o_proj"]
    text = printed([line for name in names for line in layer(name, model="a/model-with-a-long-name-3b")])
    column = "".join(line[1:36].partition("  ")[0] for line in text.splitlines())
    for name in names:
        assert name in column
    assert "seconds" in text
    assert text.count(" 0.09 ") == 2  # no figure is cut off for them


def test_layers_of_several_models_and_of_several_widths():
    lines = squeezed(printed([*layer("0"), *layer("0", model="Other", num_atoms=128, num_samples=90)]))
    assert "How sparse are the layers of Tiny, Other?" in lines
    assert any("1,800 / 200 and others; 64 to 128 atoms." in line for line in lines)


def test_a_layer_that_failed_says_so_and_the_others_keep_their_figures():
    control = failed("1") | {"data": "Gaussian", "control_of": "Tiny layer 1"}
    lines = squeezed(printed([*layer("0", 2.84), failed("1"), control]))
    assert any(line.startswith("0 Tiny 2.84 3.12") for line in lines)
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
        [text_record(f"m {n}", model="m", layer=str(n), intervals=INTERVALS) for n in range(2)],
    ],
    ids=["plain", "models", "long names", "nan", "failed", "spread", "training rows", "a control is missing", "text"],
)
@pytest.mark.filterwarnings("error")
def test_layers_are_drawn_one_beside_the_other(records, tmp_path):
    _, height = drawn(records, tmp_path)
    assert height > 900


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
    for axes, scale in zip(figure.axes, (1.1, 1, 1.1 * 1.3), strict=True):  # S1 held out, S1 training, L_norm held out
        lines = {line.get_label(): line.get_ydata().tolist() for line in axes.get_lines()}
        assert set(lines) == {"the data", "Gaussian"}
        assert lines["the data"] == pytest.approx([2 * scale, math.nan, 5 * scale], nan_ok=True)
        assert lines["Gaussian"] == pytest.approx([30 * scale, math.nan, 30 * scale], nan_ok=True)
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
        [text_record(intervals=INTERVALS), text_record("control", 30.0), record("without tokens", control_of="words")],
        [record("data", coding_gap=0.1, exact_S1=3.3, heldout_exact_S1=math.nan), failed("1"), record("control")],
    ],
    ids=["plain", "spread", "truth", "nan", "training rows", "text", "exact"],
)
@pytest.mark.filterwarnings("error")
def test_a_picture_is_drawn_of_any_records(records, tmp_path):
    draw(records, tmp_path / "sparsity.png")
    with Image.open(tmp_path / "sparsity.png") as image:
        assert image.format == "PNG"
        assert image.width > 1000
        shades = image.convert("L").histogram()
    assert sum(shades[:250]) > 5000  # something is drawn on the white

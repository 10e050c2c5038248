import json
import re
import weakref
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from sparsecode_pl.analysis.pages import Subject, check_folder, places, write_pages

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script> </title> </p> <!-- {{ 7 * 7 }} {% raw %}",
    "' onclick='alert(1) \x00 \u202e \ud800 &lt;",
]
TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "link",
        "script",
        "body",
        "nav",
        "header",
        "main",
        "section",
        "article",
        "aside",
    ),
    *(
        "h1",
        "h2",
        "h3",
        "p",
        "a",
        "b",
        "i",
        "small",
        "strong",
        "bdi",
        "span",
        "mark",
        "abbr",
        "code",
        "kbd",
        "noscript",
    ),
    *("dl", "div", "dt", "dd", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"),
    *("form", "label", "input", "select", "option", "button", "figure", "figcaption", "img", "svg", "text", "path"),
}


class Page(HTMLParser):
    """Tags, attributes, text and links of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name in ("href", "src")]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def pages(tmp_path, made_up) -> Path:
    subjects = [
        Subject("layer 3", made_up(12), facts=(("S1", "9.3"),)),
        Subject("noise", made_up(11), "layer 3", (("S1", "18.3"), ("N0", "52")), ("It is noise.",)),
    ]
    write_pages(tmp_path / "pages", subjects, "Features", "<svg/>", [("seed", "0")])
    return tmp_path / "pages"


def test_there_is_an_index_and_a_page_for_each_atom(pages):
    assert sorted(path.name for path in pages.iterdir()) == [
        *("01-noise", "atoms", "features.json", "index.html", "names.js", "pages.css", "pages.js", "picture.svg")
    ]
    assert len(list((pages / "atoms").iterdir())) == 12
    assert len(list((pages / "01-noise/atoms").iterdir())) == 11
    marker = json.loads((pages / "features.json").read_text())
    assert marker["complete"] is True
    assert marker["subjects"] == ["layer 3", "noise"]
    assert (pages / "picture.svg").read_text() == "<svg/>"


def test_all_links_lead_somewhere(pages):
    for path in pages.rglob("*.html"):
        for link in Page(path).links:
            name, _, anchor = unquote(link).partition("#")
            target = path.parent / name if name else path
            assert target.is_file(), (path, link)
            if anchor and anchor != "search":
                assert anchor in Page(target).ids, (path, link)


def test_an_atom_is_shown_with_all_that_is_known(pages, made_up):
    atom = made_up(12).atom(11)
    page = Page(pages / "atoms/0011.html")
    for text in (
        f"Atom {atom.index}",
        f"{atom.count:,} of 4,096 (held-out rows)",
        f"{atom.purity:.2f} to {atom.purity_bound:.2f}",
        f"stability {atom.stability:.2f} by chance 0.27",
        "Promotes ␣ moon +1.25",
        "Suppresses ␣ of -0.50",
        "Quantiles 0.5 to 0.75",
        f"lift {atom.partners[0].atom} 0.30 4.20\u00d7",
        str(atom.top[0].row),
    ):
        assert text in page.text
    assert page.tags <= TAGS
    shown = len(re.findall("<mark class=s", (pages / "atoms/0011.html").read_text()))
    assert shown == len(atom.top) + sum(len(band.examples) for band in atom.bands)


def test_an_atom_that_is_never_active_says_so(pages):
    page = Page(pages / "atoms/0009.html")
    assert "It is never active in these 4,096 rows (held-out rows)." in page.text
    assert "Nearest atoms" in page.text
    assert "largest coefficient" not in page.text


def test_data_and_controls_stand_side_by_side(pages):
    page = Page(pages / "index.html").text
    assert "layer 3 9.3 \u2013 11 of 12" in page
    assert "control noise 18.3 52 10 of 11" in page
    assert "seed 0" in page
    control = Page(pages / "01-noise/index.html").text
    assert "noise is a control of layer 3 ." in control
    assert "It is noise." in control
    assert "An atom of the control noise , which belongs to layer 3 ." in Page(pages / "01-noise/atoms/0000.html").text


def test_without_text_examples_are_rows(tmp_path, made_up):
    source = made_up(3, "numbers", stability_chance=None)
    write_pages(tmp_path / "pages", [Subject("x", source)], "x")
    page = Page(tmp_path / "pages/atoms/0001.html")
    assert "These rows are of no text" in page.text
    assert f"row {source.atom(1).top[0].row}" in page.text
    assert "purity" not in page.text
    assert "stability" not in page.text


def test_hostile_text_adds_no_tag_and_no_attribute(tmp_path, made_up):
    safe = made_up(11, "text")
    write_pages(tmp_path / "safe", [Subject("a", safe), Subject("b", safe, "a")], "x", summary=[("a", "b")])
    expected = [Page(path) for path in (tmp_path / "safe").rglob("*.html")]
    evil = made_up(11, "text", sentences=HOSTILE, label=HOSTILE[0], rows=HOSTILE[1])
    subjects = [
        Subject(HOSTILE[0], evil, facts=((HOSTILE[1], HOSTILE[2]),)),
        Subject(HOSTILE[1], evil, HOSTILE[0], notes=(HOSTILE[3],)),
    ]
    write_pages(tmp_path / "evil", subjects, HOSTILE[2], summary=[(HOSTILE[0], HOSTILE[3])])
    for path in (tmp_path / "evil").rglob("*.html"):
        page = Page(path)
        assert page.tags <= TAGS
        assert page.attributes <= set().union(*(page.attributes for page in expected))
        assert all(link.partition("#")[0].endswith((".html", ".css", ".js")) for link in page.links)
        scripts = re.findall("<script[^>]*>", path.read_text())
        assert all(" src=" in script or "application/json" in script for script in scripts)
        assert "\u202e" not in path.read_text()
        assert "\x00" not in path.read_text()


def test_pages_forbid_scripts_and_requests(pages):
    for path in pages.rglob("*.html"):
        assert "default-src 'none'; script-src 'self' file:;" in path.read_text()


def test_many_atoms_share_files_and_are_not_kept(tmp_path, made_up, monkeypatch):
    monkeypatch.setattr(places, "OWN_FILE", 100)
    alive: weakref.WeakSet = weakref.WeakSet()
    most = 0

    class Counted(made_up):
        def atom(self, index):
            nonlocal most
            alive.add(atom := super().atom(index))
            most = max(most, len(alive))
            return atom

    write_pages(tmp_path / "pages", [Subject("x", Counted(330, "words"))], "x")
    assert most <= 2 * places.BATCH
    assert [path.name for path in sorted((tmp_path / "pages/atoms").iterdir())] == [
        *("0000.html", "0064.html", "0128.html", "0192.html", "0256.html", "0320.html")
    ]
    page = Page(tmp_path / "pages/atoms/0064.html")
    assert [name for name in page.ids if name.startswith("a")] == [f"a{index}" for index in range(64, 128)]
    assert {"0000.html#a63", "0064.html#a65", "0128.html#a128"} <= set(page.links)


def test_pages_of_an_earlier_time_are_replaced(pages, made_up):
    (pages / "notes.txt").write_text("mine")
    (pages / "neuronpedia").mkdir()
    write_pages(pages, [Subject("other", made_up(2))], "Other")
    assert sorted(path.name for path in pages.iterdir()) == [
        *("atoms", "features.json", "index.html", "names.js", "notes.txt", "pages.css", "pages.js")
    ]
    assert len(list((pages / "atoms").iterdir())) == 2


def test_pages_that_were_interrupted_can_be_written_again(tmp_path, made_up):
    class Failing(made_up):
        def atom(self, index):
            if index == 3:
                raise KeyboardInterrupt
            return super().atom(index)

    with pytest.raises(KeyboardInterrupt):
        write_pages(tmp_path / "pages", [Subject("x", Failing(5))], "x")
    assert json.loads((tmp_path / "pages/features.json").read_text())["complete"] is False
    assert not (tmp_path / "pages/index.html").exists()
    assert write_pages(tmp_path / "pages", [Subject("x", made_up(5))], "x").is_file()


@pytest.mark.parametrize("name", ["index.html", "features.json", "notes.txt"])
def test_a_folder_of_something_else_is_refused(tmp_path, made_up, name):
    (tmp_path / name).write_text('{"kind": "other"}')
    for write in (check_folder, lambda folder: write_pages(folder, [Subject("x", made_up(2))], "x")):
        with pytest.raises(FileExistsError, match=r"folder is .*, which holds other files: give an empty folder"):
            write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_is_refused(tmp_path, made_up):
    (tmp_path / "pages").write_text("mine")
    with pytest.raises(FileExistsError, match=r"folder is .*, which is a file: give an empty folder"):
        write_pages(tmp_path / "pages", [Subject("x", made_up(2))], "x")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "subjects is empty: give at least one"),
        ([("a", None), ("a", None)], "subjects has 'a' twice: give each a name of its own"),
        ([("b", "a"), ("a", None)], "subject 'b' is a control of 'a': give that one before it"),
    ],
)
def test_subjects_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, made_up, names, message):
    subjects = [Subject(name, made_up(2), control_of) for name, control_of in names]
    with pytest.raises(ValueError, match=message):
        write_pages(tmp_path / "pages", subjects, "x")
    assert not (tmp_path / "pages").exists()


def test_a_dictionary_without_atoms_is_refused(tmp_path, made_up):
    with pytest.raises(ValueError, match="num_atoms of subject 'x' is 0: give at least one atom"):
        write_pages(tmp_path / "pages", [Subject("x", made_up(0))], "x")

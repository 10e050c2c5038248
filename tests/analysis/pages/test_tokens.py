import re

import pytest

from sparsecode_pl.analysis.pages import Subject, write_pages, write_token_tables
from sparsecode_pl.analysis.token_table import TokenFeature, TokenTable

HOSTILE = '<script>alert("1")</script>'
TABLE = TokenTable(
    " moon",
    7,
    (TokenFeature(12, 1.5, ((" moon", 1.5), (HOSTILE, 0.75))), TokenFeature(3, 0.5, ())),
    ((" sun", 0.625),),
)


def test_a_table_is_a_page_that_opens_from_disk(tmp_path):
    path = write_token_tables(tmp_path / "new", "layer 3", [TABLE])
    html = path.read_text()
    assert path == tmp_path / "new/tokens.html"
    assert "mean over 7 rows" in html
    assert re.findall(r"atom (\d+) <small>coefficient ([\d.]+)", html) == [("12", "1.50"), ("3", "0.500")]
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;" in html
    assert "<script" not in html
    assert set(re.findall('href="([^"]+)"', html)) == {"pages.css"}
    assert (path.parent / "pages.css").is_file()


def test_it_stands_beside_the_pages_of_the_atoms(tmp_path, made_up):
    write_pages(tmp_path / "pages", [Subject("x", made_up(2))], "x")
    before = (tmp_path / "pages/features.json").read_bytes()
    write_token_tables(tmp_path / "pages", "layer 3", [TABLE])
    assert (tmp_path / "pages/index.html").is_file()
    assert (tmp_path / "pages/features.json").read_bytes() == before
    write_pages(tmp_path / "pages", [Subject("x", made_up(2))], "x")
    assert (tmp_path / "pages/tokens.html").is_file()


def test_pages_can_follow_in_the_folder(tmp_path, made_up):
    write_token_tables(tmp_path / "pages", "layer 3", [TABLE])
    assert write_pages(tmp_path / "pages", [Subject("x", made_up(2))], "x").is_file()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="give an empty folder"):
        write_token_tables(tmp_path, "layer 3", [TABLE])

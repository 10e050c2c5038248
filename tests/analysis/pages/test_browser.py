"""The pages in Chromium: search, order, keys, hostile text, no network, phones and the dark."""

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sparsecode_pl.analysis.pages import Subject, places, write_pages

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not both installed")

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
HOSTILE = [
    "<script>document.title='taken'</script> </script><script>alert(1)</script> end",
    '"><img src=x onerror=alert(1)> \'quoted\' "twice" &amp; ${1} {{7*7}} \u2028',
    "\u202egnp.exe \x00nul \x1b[31m \n tab\t <!-- <style>*{display:none}</style>",
]
# Ratio of contrast as WCAG 2 defines it, of each text that is seen, against what lies behind it.
CONTRASTS = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
function behind(element) {
  if (!element) return [255, 255, 255];
  const [r, g, b, a = 1] = channels(getComputedStyle(element).backgroundColor);
  if (a === 1) return [r, g, b];
  const under = behind(element.parentElement);
  return [r, g, b].map((c, i) => a * c + (1 - a) * under[i]);
}
const found = {};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("script, noscript")) continue;
  const style = getComputedStyle(element);
  const pair = [light(channels(element.closest("svg") ? style.fill : style.color)), light(behind(element))].sort();
  const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  const name = `${element.tagName}.${element.className.baseVal ?? element.className}`;
  found[name] = Math.min(found[name] ?? 99, ratio);
}
return found;
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, made_up) -> Path:
    made = tmp_path_factory.mktemp("pages") / "features"
    plain = made_up(60)
    picture = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9"/></svg>'
    subjects = [
        Subject("layer 3", plain, facts=(("S1", "9.3 [9.1, 9.5]"), ("explained variance", "0.90"))),
        Subject("noise", made_up(12, sentences=HOSTILE, label=HOSTILE[0]), "layer 3", (("S1", "18.3"),), (HOSTILE[1],)),
        Subject("embeddings", made_up(12, "words")),
        Subject("synthetic", made_up(12, "numbers", stability_chance=None)),
        Subject("large", made_up(450, "numbers")),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "OWN_FILE", 100)  # so that this one is large
        write_pages(made, subjects, "Features <i>of</i> a model", picture, [("model", "all-MiniLM-L6-v2")])
    return made


@pytest.fixture(scope="module")
def driver(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield made
    made.quit()


@pytest.fixture
def browser(driver) -> webdriver.Chrome:
    """The browser, on a wide, light screen, with empty logs."""
    screen(driver)
    for log in ("browser", "performance"):
        driver.get_log(log)
    return driver


def screen(browser, width: int = 1280, scheme: str = "light") -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


PAGES = [
    "index.html",
    "atoms/0011.html",
    "atoms/0009.html",  # never active
    "01-noise/index.html",
    "01-noise/atoms/0003.html",
    "02-embeddings/atoms/0001.html",
    "03-synthetic/atoms/0001.html",
]


@dataclass
class Seen:
    """What was seen of one page of each kind."""

    phone: dict[str, int] = field(default_factory=dict)  # width, on a screen of 375
    contrasts: dict[str, dict[str, dict[str, float]]] = field(default_factory=lambda: {"light": {}, "dark": {}})
    papers: dict[str, set[str]] = field(default_factory=lambda: {"light": set(), "dark": set()})
    messages: list[str] = field(default_factory=list)
    schemes: set[str] = field(default_factory=set)  # of all that was asked for


@pytest.fixture(scope="module")
def seen(driver, folder) -> Seen:
    made = Seen()
    for log in ("browser", "performance"):
        driver.get_log(log)
    for page in PAGES:
        screen(driver, 375)
        driver.get((folder / page).as_uri())
        made.phone[page] = driver.execute_script("return document.documentElement.scrollWidth")
        for scheme in ("light", "dark"):
            screen(driver, scheme=scheme)
            made.contrasts[scheme][page] = driver.execute_script(CONTRASTS)
            paper = "return getComputedStyle(document.body).backgroundColor"
            made.papers[scheme].add(driver.execute_script(paper))
    made.messages = [entry["message"] for entry in driver.get_log("browser")]
    asked = "".join(entry["message"] for entry in driver.get_log("performance"))
    made.schemes = set(re.findall(r'"url":"(\w+):', asked))
    return made


def shown(browser) -> list[int]:
    links = "return new Promise((done) => setTimeout(() => done([...document.querySelectorAll('#table tbody th a')]"
    return browser.execute_script(links + ".map((link) => Number(link.textContent))), 10))")


def press(browser, *keys: str) -> None:
    webdriver.ActionChains(browser).send_keys(*keys).perform()


def focused(browser) -> str:
    return browser.switch_to.active_element.text


def arrives(browser, ending: str) -> bool:
    """Whether the browser gets to a page whose address has this ending."""
    for _ in range(100):
        if browser.current_url.endswith(ending) and browser.execute_script("return document.readyState") == "complete":
            return True
        time.sleep(0.02)
    return False


def test_the_search_finds_numbers_tokens_and_words(browser, folder):
    browser.get((folder / "index.html").as_uri())
    search = browser.find_element(By.ID, "search")
    assert len(shown(browser)) == 60
    search.send_keys("17")
    assert shown(browser) == [17]
    search.clear()
    search.send_keys("HARBOUR quiet")
    everything = set(shown(browser))
    assert everything
    assert everything < set(range(60)) - set(range(9, 60, 10))
    search.clear()
    search.send_keys("nothing like this")
    assert shown(browser) == []
    assert browser.find_element(By.ID, "status").text == "No atom matches the search."


@pytest.mark.parametrize("name", ["frequency", "largest", "mean", "purity", "stability"])
def test_the_table_is_sorted_by_each_column(browser, folder, made_up, name):
    browser.get((folder / "index.html").as_uri())
    atoms = [made_up(60).atom(index) for index in range(60)]
    active = [atom for atom in atoms if atom.count]
    dead = [atom.index for atom in atoms if not atom.count]
    value = {atom.index: float(f"{getattr(atom, name):.4g}") for atom in active}
    expected = sorted(value, key=lambda index: (-value[index], index))
    head = browser.find_element(By.CSS_SELECTOR, f"th[data-column={name}]")
    if name != "frequency":  # by which the table is sorted at first
        head.find_element(By.TAG_NAME, "button").click()
    assert shown(browser) == expected + dead
    assert head.get_attribute("aria-sort") == "descending"
    head.find_element(By.TAG_NAME, "button").click()
    lowest = sorted(value, key=lambda index: (value[index], index))
    assert shown(browser) == lowest + dead, "what is never active stays last"
    browser.find_element(By.ID, "hide").click()
    assert shown(browser) == lowest


def test_a_large_table_is_drawn_in_parts(browser, folder):
    browser.get((folder / "04-large/index.html").as_uri())
    assert len(shown(browser)) == 200
    assert browser.find_element(By.ID, "status").text == "450 atoms, the first 200 shown"
    browser.find_element(By.ID, "more").click()
    assert browser.execute_script("return document.querySelectorAll('#table tbody tr').length") == 400
    search = browser.find_element(By.ID, "search")
    search.send_keys("421", Keys.ENTER)  # opens the first that is found
    assert arrives(browser, "atoms/0384.html#a421")
    press(browser, "j")
    assert arrives(browser, "atoms/0384.html#a422")
    press(browser, "k", "k")
    assert arrives(browser, "atoms/0384.html#a420")


def test_all_is_done_by_keys(browser, folder):
    browser.get((folder / "index.html").as_uri())
    order = [str(index) for index in shown(browser)]
    press(browser, "j", "j", "j", "k")
    assert focused(browser) == order[1]
    outline = "return getComputedStyle(document.activeElement).outlineWidth"
    assert float(browser.execute_script(outline).removesuffix("px")) >= 2, "the focus is seen"
    press(browser, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP)
    assert focused(browser) == order[2]
    press(browser, "/", "33", Keys.ARROW_DOWN, Keys.ENTER)
    assert arrives(browser, "atoms/0033.html")
    press(browser, "j")
    assert arrives(browser, "atoms/0034.html")
    press(browser, Keys.ARROW_LEFT)
    assert arrives(browser, "atoms/0033.html")
    press(browser, "k")
    assert arrives(browser, "atoms/0032.html")
    press(browser, "/")
    assert arrives(browser, "index.html#search")
    assert browser.switch_to.active_element.get_attribute("id") == "search"


def test_neighbours_are_named(browser, folder, made_up):
    browser.get((folder / "atoms/0011.html").as_uri())
    atom = made_up(60).atom(11).nearest[0].atom
    near = browser.find_element(By.CSS_SELECTOR, "aside tbody tr td")
    name = made_up(60).atom(atom).token
    assert near.text == f"{atom} {'never active' if name is None else name.strip()}"


def test_hostile_text_stays_text(browser, folder, made_up):
    for path in [folder / "01-noise/index.html", *sorted((folder / "01-noise/atoms").glob("000[0-3].html"))]:
        browser.get(path.as_uri())
        assert browser.title.endswith(("· noise", "· Features <i>of</i> a model"))
        assert (
            browser.execute_script("return document.images.length + document.querySelectorAll('main style').length")
            == 0
        )
        scripts = "return [...document.scripts].every((s) => /(pages|names).js$/.test(s.src) || /json$/.test(s.type))"
        assert browser.execute_script(scripts)
    browser.get((folder / "01-noise/atoms/0003.html").as_uri())
    text = browser.find_element(By.CSS_SELECTOR, "main").text
    assert "\u202e" not in text
    assert any(sign in text for sign in ("[U+202E]", "<script>", "onerror"))


def test_an_inline_script_would_not_run(browser, folder, tmp_path):
    shutil.copytree(folder / "02-embeddings", tmp_path / "02-embeddings")
    for name in ("pages.js", "pages.css"):
        shutil.copy(folder / name, tmp_path)
    path = tmp_path / "02-embeddings/atoms/0001.html"
    evil = "<script>document.title = 'taken'</script><img src='http://192.0.2.1/x.png'></main>"
    path.write_text(path.read_text().replace("</main>", evil))
    browser.get(path.as_uri())
    assert browser.title != "taken"
    refused = [entry["message"] for entry in browser.get_log("browser")]
    assert len([message for message in refused if "Content Security Policy" in message]) == 2


def test_no_request_leaves_and_nothing_is_refused(seen, folder):
    assert seen.messages == []
    assert seen.schemes <= {"file", "about"}
    for path in folder.rglob("*"):
        if path.suffix in (".html", ".js", ".css"):
            assert not re.search("https?:", path.read_text()), path


def test_a_phone_does_not_scroll_sideways(seen):
    assert {path: width for path, width in seen.phone.items() if width > 375} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(seen, scheme):
    for path, contrasts in seen.contrasts[scheme].items():
        assert len(contrasts) > 10
        assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}, path
    assert seen.papers[scheme] == {"rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 28)"}


def test_the_picture_is_drawn(browser, folder):
    browser.get((folder / "index.html").as_uri())
    assert browser.execute_script("return document.images[0].naturalWidth") > 0


def test_without_javascript_the_page_says_so(browser, folder):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get((folder / "index.html").as_uri())
        note = browser.find_element(By.TAG_NAME, "noscript")
        assert "needs JavaScript" in note.text
        assert not browser.find_element(By.ID, "controls").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

"""The report in a real browser: layout, colours, keyboard and print."""

import os
import shutil

import pytest

from bench.reports.html.page import render
from bench.reports.json_file import Run
from tests.bench.report_runs import every_verdict, exact_networks

CHROMIUM = shutil.which("chromium")
INSTALL = "sudo apt-get install chromium fonts-dejavu-core"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"chromium is missing: {INSTALL}")

PATIENCE = 120_000
"""Milliseconds: a busy machine is no failure."""
WIDTHS = (320, 400, 768, 1280)
NOTHING = Run({}, None, [])
RUNS = {
    "every-verdict": [("run.json", every_verdict())],
    "exact": [("run.json", exact_networks())],
    "two-files": [("before.json", every_verdict()), ("after.json", every_verdict())],
    "nothing": [("empty.json", NOTHING)],
}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: make setup")
    # Chromium's sandbox needs what a container seldom grants, and root is refused with it.
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=sandbox, timeout=PATIENCE)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, runs in RUNS.items():
        (folder / f"{name}.html").write_text(render(runs))
    return folder


@pytest.fixture
def opened(browser, files):
    """Opens a page and holds it to say nothing on the console and to fetch nothing but itself."""
    complaints, contexts = [], []

    def open_page(name, *, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if _outside(request) else None)
        page.goto((files / f"{name}.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _outside(request):
    return not request.url.startswith(("data:", "file:"))


OPEN_ALL = "document.querySelectorAll('details').forEach(each => { each.open = true })"
# What reaches over the right edge of the window without standing in something that scrolls.
TOO_WIDE = """() => [...document.querySelectorAll('body *')].filter(each =>
    each.getBoundingClientRect().right > document.documentElement.clientWidth + 1
    && !each.closest('.scroll, .panels, pre, .sr, .skip')).map(each => each.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("name", RUNS)
def test_the_page_never_scrolls_sideways(opened, name):
    page = opened(name)
    for _ in range(2):
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            assert (width, page.evaluate(TOO_WIDE)) == (width, [])
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(OPEN_ALL)


# Text elements whose colour is less than 4.5:1 against the nearest ground that is painted behind them.
FAINT = """() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(each => each / 255).map(
      each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = each => {
    for (let at = each; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    throw new Error('nothing is painted');
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walk.nextNode()) {
    const each = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !each.checkVisibility()) continue;
    seen += 1;
    const ink = light(channels(getComputedStyle(each).color)), paper = light(ground(each));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (ratio < 4.5) found.push([ratio.toFixed(2), each.className, each.textContent.trim().slice(0, 40)]);
  }
  return [seen, found];
}"""


@pytest.mark.parametrize("name", RUNS)
def test_text_has_contrast_in_light_and_dark(opened, name):
    page = opened(name)
    page.evaluate(OPEN_ALL)
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        seen, faint = page.evaluate(FAINT)
        assert seen > 50
        assert (scheme, faint) == (scheme, [])
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


FOCUSED = """() => { const at = document.activeElement; const box = at.getBoundingClientRect(); return {
  body: at === document.body,
  tag: at.tagName, text: at.innerText.slice(0, 60), label: at.getAttribute('aria-label'),
  outline: getComputedStyle(at).outlineStyle + ' ' + parseFloat(getComputedStyle(at).outlineWidth),
  place: [...document.querySelectorAll('*')].indexOf(at),
  visible: box.bottom > 0 && box.top < innerHeight && box.width > 0 }; }"""


@pytest.mark.parametrize("width", [400, 1280])
def test_everything_is_reached_by_the_keyboard_in_the_order_of_the_page(opened, width):
    page = opened("every-verdict", width=width)
    page.emulate_media(reduced_motion="reduce")
    stops = []
    while True:
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUSED)
        if at["body"] or (stops and at["place"] <= stops[-1]["place"]):
            break
        stops.append(at)
    assert stops[0]["text"] == "Skip to the report"
    assert [stop["text"] for stop in stops[1:4]] == ["Summary", "What went wrong", "Layers"]
    assert all(stop["visible"] for stop in stops)
    assert all(stop["outline"] == "solid 3" for stop in stops)
    reachable = "all => all.filter(each => each.checkVisibility()).length"
    assert len(stops) == page.eval_on_selector_all("a, summary, [tabindex='0']", reachable)
    # What scrolls is reached too, and says what it is.
    regions = [stop for stop in stops if stop["tag"] in ("DIV", "PRE")]
    assert len(regions) > 5
    assert all(region["label"] for region in regions)


def test_the_keyboard_skips_opens_and_scrolls(opened):
    page = opened("every-verdict", width=400)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert summary.evaluate("each => each.parentElement.open")
    region = page.locator(".scroll").first
    region.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.scroll').scrollLeft > 0")


STRUCTURE = """() => {
  const all = (which, keep) => [...document.querySelectorAll(which)].filter(keep ?? (() => true));
  return {
    h1: all('h1').length,
    levels: all('h1, h2, h3, h4').map(each => Number(each.tagName[1])),
    landmarks: ['header', 'nav', 'main', 'footer'].filter(each => all(each).length !== 1),
    headers: all('th:not([scope])').length,
    rows: all('tbody tr', each => !each.querySelector('th')).length,
    loose: all('table', each => !each.closest('.scroll[aria-label]')).length,
    pictures: all('svg', each => !each.closest('[aria-hidden=true], [role=img][aria-label]')).length,
    empty: all('a, h1, h2, h3, h4, summary', each => !each.textContent.trim()).length,
    cells: all('.cells .cell', each => !each.querySelector('.sr').textContent).length,
    language: document.documentElement.lang }; }"""


@pytest.mark.parametrize("name", RUNS)
def test_the_structure_speaks_without_eyes(opened, name):
    found = opened(name).evaluate(STRUCTURE)
    assert found["h1"] == 1
    assert all(
        after - before <= 1 for before, after in zip(found["levels"], found["levels"][1:], strict=False)
    )
    assert found["language"] == "en"
    for nothing in ("headers", "rows", "loose", "pictures", "empty", "cells"):
        assert not found[nothing], nothing
    assert found["landmarks"] == []


def test_cells_are_told_apart_without_colour(opened):
    symbols = opened("every-verdict").eval_on_selector_all(
        ".cells .cell",
        "cells => cells.map(each => [each.className, each.firstElementChild.textContent])",
    )
    by_class = {}
    for name, symbol in symbols:
        by_class.setdefault(name.replace(" first", ""), set()).add(symbol)
    assert len(by_class) >= 4
    assert all(len(each) == 1 for each in by_class.values())
    assert len({symbol for each in by_class.values() for symbol in each}) == len(by_class)


def test_print_shows_what_is_folded_and_no_navigation(opened):
    page = opened("every-verdict", width=700)
    folded = "details > :not(summary)"
    hidden = "all => all.filter(each => !each.checkVisibility()).length"
    assert page.eval_on_selector_all(folded, hidden) > 0
    page.emulate_media(media="print")
    assert page.eval_on_selector_all(folded, hidden) == 0
    assert not page.locator("nav").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_the_picture_marks_the_first_element_where_it_is(opened):
    """The box is centred on the first differing element, and the picture's pixel there is coloured."""
    page = opened("every-verdict")
    pixel = page.evaluate("""async () => {
      const mark = document.querySelector('.panel .mark'), svg = mark.closest('svg');
      const image = new Image();
      image.src = svg.querySelector('image').getAttribute('href');
      await image.decode();
      const context = document.createElement('canvas').getContext('2d');
      context.drawImage(image, 0, 0);
      const centre = name => Number(mark.getAttribute(name)) + Number(mark.getAttribute('width')) / 2 - 0.5;
      return [...context.getImageData(centre('x'), centre('y'), 1, 1).data];
    }""")
    assert pixel == [214, 51, 96, 255]

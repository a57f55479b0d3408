"""The page in a real browser: charts drawn, nothing loaded, nothing complained about."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tasks.report.compare import compare
from tasks.report.page import render
from tasks.sweep.result import SweepResult

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH: install chromium to run browser tests")

#: Functions throughout: a bare expression would need eval, which the page's policy forbids.
READY = "() => document.documentElement.dataset.charts !== undefined"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One headless browser for the module."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(
    tmp_path_factory: pytest.TempPathFactory, sweep: tuple[SweepResult, pl.DataFrame], quality: pl.DataFrame
) -> str:
    """The fixture's page on disk."""
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(*sweep, quality, {"rows": 2976}), encoding="utf-8")
    return path.as_uri()


class _Watched:
    """A page that remembers every complaint and every request."""

    def __init__(self, browser: Browser, **options: object) -> None:
        self.page: Page = browser.new_page(**options)  # type: ignore[arg-type]
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, address: str) -> Page:
        self.page.goto(address)
        self.page.wait_for_function(READY)
        return self.page


@pytest.fixture(scope="module")
def opened(browser: Browser, address: str) -> Iterator[Page]:
    """The page, light and wide, for tests that leave it as they found it."""
    page = _Watched(browser, color_scheme="light", viewport={"width": 1280, "height": 700}).open(address)
    yield page
    page.close()


def _drawn(page: Page) -> dict[str, int]:
    """Return for each chart how many drawn marks it has."""
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("[data-chart]")].map((chart) =>
            [chart.dataset.chart, chart.querySelectorAll("svg .trace, svg .hm image").length]))"""
    )


@pytest.mark.parametrize(("scheme", "width"), [("light", 400), ("dark", 1280)])
def test_every_chart_is_drawn_in_every_dress(browser: Browser, address: str, scheme: str, width: int) -> None:
    """In both themes and at both widths all charts have marks, the page fits its width, and nothing is asked for."""
    watched = _Watched(browser, color_scheme=scheme, viewport={"width": width, "height": 800})
    page = watched.open(address)
    assert page.evaluate("document.documentElement.dataset.charts") == "ready"
    marks = _drawn(page)
    assert set(marks) == {
        "equity-out",
        "equity-in",
        "returns",
        "heat",
        "parallel",
        "scatter",
        "price",
        "closer-0",
        "fan",
        "costs",
    }
    assert all(marks.values()), marks
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert watched.complaints == []
    assert [url for url in watched.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    page.close()


def test_the_toggle_changes_page_and_charts(opened: Page) -> None:
    """One press turns paper and curves dark, a second one light again."""
    look = """() => [getComputedStyle(document.body).backgroundColor,
        document.querySelector('[data-chart="equity-out"] .js-line:last-of-type').style.stroke]"""
    light = opened.evaluate(look)
    opened.click("#theme")
    opened.wait_for_function(f"(old) => ({look})().every((colour, at) => colour !== old[at])", arg=light)
    opened.click("#theme")
    opened.wait_for_function(f"(old) => JSON.stringify(({look})()) === JSON.stringify(old)", arg=light)


def test_the_slider_moves_the_heatmap(opened: Page, sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """The cell under the winner shows the grid's figure at the slider's value of the third parameter."""
    grid = sweep[0].grid.filter(pl.col("fast") == 20, pl.col("slow") == 120).sort("band")
    cell = """() => { const map = document.querySelector('[data-chart="heat"]').data[0];
        return map.z[map.y.indexOf("120")][map.x.indexOf("20")]; }"""
    for index, expected in enumerate(grid["is_sharpe"]):
        opened.fill("#heat-controls input[type=range]", str(index))
        assert opened.evaluate(cell) == pytest.approx(expected, rel=1e-6)


def test_a_closer_look_swaps_the_trade(opened: Page) -> None:
    """Choosing another trade draws that trade's bars."""
    shown = "() => document.querySelector('#closer')._fullLayout.xaxis.range.join()"
    first = opened.evaluate(shown)
    opened.select_option("[data-swaps=closer]", "closer-1")
    opened.wait_for_function(f"(old) => ({shown})() !== old", arg=first)
    opened.select_option("[data-swaps=closer]", "closer-0")
    opened.wait_for_function(f"(old) => ({shown})() === old", arg=first)


@pytest.mark.parametrize("width", [1280, 400])
def test_meanings_are_shown_whole(opened: Page, width: int) -> None:
    """Focusing any head or figure shows its meaning inside the window, never clipped; Escape hides it."""
    opened.set_viewport_size({"width": width, "height": 700})
    terms = opened.locator("main .term:visible")
    assert terms.count() > 20
    for index in (0, 9, terms.count() - 1):
        terms.nth(index).focus()
        meaning = terms.nth(index).locator(".meaning")
        box = meaning.bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= width - box["width"]
        assert 0 <= box["y"] <= 700 - box["height"]
        opened.keyboard.press("Escape")
        assert not meaning.is_visible()
    opened.set_viewport_size({"width": 1280, "height": 700})


def test_paper_is_light_and_narrow(opened: Page) -> None:
    """A reader in the dark prints light charts that fit the paper, and has the dark and wide ones back afterwards."""
    look = """() => { const chart = document.querySelector('[data-chart="equity-out"]');
        return [Math.round(chart.querySelector(".main-svg").getBoundingClientRect().width),
            chart.querySelector(".js-line:last-of-type").style.stroke]; }"""
    same = f"(old) => JSON.stringify(({look})()) === JSON.stringify(old)"
    opened.wait_for_function(f"() => ({look})()[0] > 1000")
    light = opened.evaluate(look)
    opened.click("#theme")
    opened.wait_for_function(f"(old) => ({look})()[1] !== old[1]", arg=light)
    dark = opened.evaluate(look)
    opened.emulate_media(media="print")
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    opened.wait_for_function(f"(old) => ({look})()[1] === old[1]", arg=light)
    assert opened.evaluate(look)[0] <= 700
    assert opened.evaluate("getComputedStyle(document.body).color") == "rgb(27, 36, 48)"
    opened.emulate_media(media="screen")
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    opened.wait_for_function(same, arg=dark)
    opened.click("#theme")
    opened.wait_for_function(same, arg=light)


def test_the_comparison_is_drawn_too(browser: Browser, tmp_path: Path, sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """The page of several runs draws its three charts and asks for nothing."""
    path = tmp_path / "compare.html"
    path.write_text(compare([sweep[0], replace(sweep[0], run_id="fixture-0002")]), encoding="utf-8")
    watched = _Watched(browser, color_scheme="dark", viewport={"width": 400, "height": 800})
    page = watched.open(path.as_uri())
    marks = _drawn(page)
    assert set(marks) == {"overlay", "kept", "likeness"}
    assert all(marks.values()), marks
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert watched.complaints == []
    page.close()


def test_without_scripts_the_page_still_reads(browser: Browser, address: str) -> None:
    """With JavaScript off, the verdict and the tables are there and the page says what is missing."""
    page = browser.new_page(java_script_enabled=False)
    page.goto(address)
    assert "Nothing survives" in page.inner_text("#verdict")
    assert "need JavaScript" in page.inner_text("noscript")
    page.close()

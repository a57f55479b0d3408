"""The page in a real browser: charts drawn, nothing loaded, nothing complained about."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tasks.report.page import render
from tasks.sweep.result import SweepResult

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH: install chromium to run browser tests")

READY = "document.documentElement.dataset.charts !== undefined"


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


def _drawn(page: Page) -> dict[str, int]:
    """Return for each chart how many drawn marks it has."""
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("[data-chart]")].map((chart) =>
            [chart.dataset.chart, chart.querySelectorAll("svg .trace, svg .hm image").length]))"""
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
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


def test_the_toggle_changes_page_and_charts(browser: Browser, address: str) -> None:
    """One press turns paper and curves dark, a second one light again."""
    page = _Watched(browser, color_scheme="light").open(address)
    look = """() => [getComputedStyle(document.body).backgroundColor,
        document.querySelector('[data-chart="equity-out"] .js-line:last-of-type').style.stroke]"""
    light = page.evaluate(look)
    page.click("#theme")
    page.wait_for_function(f"(old) => JSON.stringify(({look})()) !== JSON.stringify(old)", arg=light)
    dark = page.evaluate(look)
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    page.click("#theme")
    page.wait_for_function(f"(old) => JSON.stringify(({look})()) === JSON.stringify(old)", arg=light)
    page.close()


def test_the_slider_moves_the_heatmap(browser: Browser, address: str, sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """The cell under the winner shows the grid's figure at the slider's value of the third parameter."""
    page = _Watched(browser).open(address)
    grid = sweep[0].grid.filter(pl.col("fast") == 20, pl.col("slow") == 120).sort("band")
    cell = """() => { const map = document.querySelector('[data-chart="heat"]').data[0];
        return map.z[map.y.indexOf("120")][map.x.indexOf("20")]; }"""
    for index, expected in enumerate(grid["is_sharpe"]):
        page.fill("#heat-controls input[type=range]", str(index))
        assert page.evaluate(cell) == pytest.approx(expected, rel=1e-6)
    page.close()


def test_without_scripts_the_page_still_reads(browser: Browser, address: str) -> None:
    """With JavaScript off, the verdict and the tables are there and the page says what is missing."""
    page = browser.new_page(java_script_enabled=False)
    page.goto(address)
    assert "Nothing survives" in page.inner_text("#verdict")
    assert "need JavaScript" in page.inner_text("noscript")
    page.close()

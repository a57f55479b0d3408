"""Data Docs and the quarantine page say what was found, and need nothing from any network."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.store import Lake
from tasks.quality import verdicts
from tasks.quality.docs import build_docs, offline
from tasks.quality.page import quarantine_page
from tasks.quality.task import write_data_docs
from tasks.quality.whole_lake import check_lake

HOUR = timedelta(hours=1)
STEP = timedelta(minutes=30)
START = datetime(2024, 1, 1, tzinfo=UTC)
END = datetime(2024, 3, 1, tzinfo=UTC)
REMOTE = re.compile(r"(?:src|href)=[\"']?(?:https?:)?//|@import|url\(|<script\b[^>]+src", re.IGNORECASE)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, make_bars: Callable[..., pl.DataFrame]) -> Lake:
    """Return a judged lake of two symbols, one of whose four partitions is rejected."""
    lake = Lake(tmp_path_factory.mktemp("judged") / "lake", clock=lambda: END + HOUR)
    for number, symbol in enumerate(("BTCUSDT", "<b>ETH")):
        bars = make_bars((END - START) // STEP, start=START, step=STEP, seed=number)
        if number:
            struck = pl.int_range(pl.len()) == 30
            bars = bars.with_columns(low=pl.when(struck).then(-1.0).otherwise("low"))
        lake.write_bars(bars, symbol=symbol, interval="30m", start=START, end=END)
    check_lake(lake, "30m")
    return lake


def test_data_docs_are_complete_and_need_no_network(judged: Lake, tmp_path: Path) -> None:
    """Every page is there, says which rule failed and where, and refers to nothing remote; building twice is safe.

    The door returns the path of the first page, ready for a Prefect artifact.
    """
    build_docs(judged, "30m", tmp_path / "site")
    index = Path(write_data_docs.fn(str(judged.location.uri), "30m", str(tmp_path / "site")))
    assert index == tmp_path / "site" / "index.html"
    pages = {path: path.read_text(encoding="utf-8") for path in index.parent.rglob("*.html")}
    assert len(pages) == 6, "index, quarantine, two validations and their two suites"
    for path, text in pages.items():
        assert not REMOTE.search(text.replace('href="https://greatexpectations.io', "")), path
    links = re.findall(r'href="([^"#]+)"', pages[index])
    assert len(links) == 5
    from urllib.parse import unquote

    assert all((index.parent / unquote(link)).is_file() for link in links)
    assert any("bad_price (reject): fails where a price is zero or negative" in text for text in pages.values())
    assert any("<h1>&lt;b&gt;ETH 2024-01-01</h1>" in text for text in pages.values())
    assert not any("<b>ETH" in text for text in pages.values())


def test_the_quarantine_page_shows_bars_reasons_and_releases(judged: Lake) -> None:
    """The bad bar is shown with its reasons; a release appears with who and why; names are escaped."""
    page = quarantine_page(judged, "30m")
    assert not REMOTE.search(page)
    assert "1 rejected" in page
    assert "1 bar in quarantine" in page
    assert 'data-words="&lt;b&gt;eth rejected bad_price"' in page
    command = "--symbol &#39;&lt;b&gt;ETH&#39; --interval 30m --start 2024-01-01 --end 2024-02-01 --reason"
    assert command in page, "how to release it, quoted for a shell"
    assert "2024-01-01 15:00" in page
    assert "bad_price" in page
    assert "<b>ETH" not in page
    verdicts.release(judged, "<b>ETH", "30m", START, END, reason="vendor <i>confirmed</i>", released_by="maria")
    page = quarantine_page(judged, "30m")
    assert "vendor &lt;i&gt;confirmed&lt;/i&gt;" in page
    assert "0 rejected" in page
    assert "klinehouse release" not in page


def test_an_empty_quarantine_says_so(tmp_path: Path) -> None:
    """A lake without verdicts has a page too."""
    assert "none of" in quarantine_page(Lake(tmp_path), "30m")


def test_offline_cuts_scripts_and_remote_files() -> None:
    """What a page would fetch is cut; what it says stays."""
    page = (
        '<html><head><link rel="stylesheet" href="https://cdn.example/x.css"><script src="//cdn.example/x.js"></script>'
        '<link rel="shortcut icon" href="../../../static/images/favicon.ico">'
        '</head><body><img src="https://cdn.example/logo.png"/><p>0.5% unexpected</p></body></html>'
    )
    found = offline(page)
    assert "cdn.example" not in found
    assert "favicon" not in found
    assert "0.5% unexpected" in found

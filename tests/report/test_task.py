"""The report's door: from a run in the lake to a page on disk."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.store import Lake
from tasks.errors import InputError
from tasks.report.sources import RELEASES, VERDICTS, lake_days
from tasks.report.task import file_name, write_comparison, write_page, write_quality_calendar, write_report
from tasks.sweep.result import SweepResult
from tasks.sweep.store import save


@pytest.fixture
def stored(tmp_path: Path, sweep: tuple[SweepResult, pl.DataFrame], quality: pl.DataFrame) -> tuple[Path, SweepResult]:
    """A lake with the fixture's bars, verdicts and run in it."""
    result, bars = sweep
    lake = Lake(tmp_path / "lake")
    end = bars["timestamp"][-1] + timedelta(minutes=15)
    lake.write_bars(bars, symbol=result.symbol, interval=result.interval, start=bars["timestamp"][0], end=end)
    other = quality.with_columns(symbol=pl.lit("ELSEWHERE"))
    lake.append(VERDICTS, pl.concat([quality, other]))
    record = result.record | {"lake_version": lake.bars_version(result.interval), "calendar": "always_open"}
    finished = replace(result, record=record)
    save(lake, finished)
    return tmp_path / "lake", finished


def test_a_stored_run_becomes_a_page(stored: tuple[Path, SweepResult], tmp_path: Path) -> None:
    """The page has the run's verdict, its own verdict rows and no one else's, and how complete its bars are."""
    root, result = stored
    path = Path(write_report.fn(str(root), result.run_id, str(tmp_path / "reports")))
    assert path.name == "BTC-PERP-15m-fixture-0001.html"
    page = path.read_text(encoding="utf-8")
    assert result.verdict in page
    assert page.count('class="badge') == 3
    assert "ELSEWHERE" not in page
    assert "2,976" in page
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_the_page_shows_the_bars_the_run_saw(stored: tuple[Path, SweepResult], tmp_path: Path) -> None:
    """Bars revised after the run do not change its report."""
    root, result = stored
    before = Path(write_report.fn(str(root), result.run_id, str(tmp_path / "before"))).read_bytes()
    lake = Lake(root)
    bars = lake.read_bars(result.symbol, result.interval).with_columns(
        pl.col("open", "high", "low", "close") * 2, pl.col("volume")
    )
    end = bars["timestamp"][-1] + timedelta(minutes=15)
    lake.write_bars(bars, symbol=result.symbol, interval=result.interval, start=bars["timestamp"][0], end=end)
    after = Path(write_report.fn(str(root), result.run_id, str(tmp_path / "after"))).read_bytes()
    assert after == before


def test_an_unknown_run_is_refused(stored: tuple[Path, SweepResult], tmp_path: Path) -> None:
    """No page is made for a run that the lake does not have."""
    with pytest.raises(InputError, match="nobody"):
        write_report.fn(str(stored[0]), "nobody", str(tmp_path / "reports"))
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("symbol", "name"),
    [("BTC-PERP", "BTC-PERP-1d-r.html"), ("../../etc/x", "etc-x-1d-r.html"), ("a b/c", "a-b-c-1d-r.html")],
)
def test_no_symbol_leaves_the_folder(sweep: tuple[SweepResult, pl.DataFrame], symbol: str, name: str) -> None:
    """Whatever the vendor spells a symbol like, its page stays in the folder asked for."""
    assert file_name(replace(sweep[0], symbol=symbol, interval="1d", run_id="r")) == name


def test_a_page_is_replaced_whole(tmp_path: Path) -> None:
    """A new page takes the old one's place and leaves nothing else behind."""
    path = tmp_path / "reports" / "page.html"
    write_page(path, "old")
    write_page(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert list(path.parent.iterdir()) == [path]


def test_stored_runs_are_compared(stored: tuple[Path, SweepResult], tmp_path: Path) -> None:
    """The comparison links to the report that is there and names the run that has none; its name is the runs'."""
    root, result = stored
    save(Lake(root), replace(result, run_id="fixture-0002"))
    out = tmp_path / "reports"
    report = Path(write_report.fn(str(root), result.run_id, str(out)))
    path = Path(write_comparison.fn(str(root), [result.run_id, "fixture-0002"], str(out)))
    again = Path(write_comparison.fn(str(root), ["fixture-0002", result.run_id], str(out)))
    assert path == again
    page = path.read_text(encoding="utf-8")
    assert f'<a href="{report.name}">' in page
    assert page.count("<a href") == 1


def test_a_release_is_shown_with_its_reason(
    stored: tuple[Path, SweepResult], quality: pl.DataFrame, tmp_path: Path
) -> None:
    """A partition that a person released shows why, and only for the content that was released."""
    root, result = stored
    rejected = quality.filter(pl.col("status") == "reject")
    released = {
        "symbol": [result.symbol] * 2,
        "interval": [result.interval] * 2,
        "partition_start": [rejected["partition_start"][0]] * 2,
        "content_hash": ["c", "other"],
        "reason": ["exchange outage, confirmed", "never shown"],
        "released_at": [rejected["checked_at"][0]] * 2,
    }
    Lake(root).append(RELEASES, pl.DataFrame(released))
    page = Path(write_report.fn(str(root), result.run_id, str(tmp_path / "out"))).read_text(encoding="utf-8")
    assert "released by a person: exchange outage, confirmed" in page
    assert '<span class="badge released">released</span>' in page
    assert 'class="badge reject"' not in page
    assert "never shown" not in page


def test_every_symbol_of_the_lake_has_its_row(
    stored: tuple[Path, SweepResult], sweep: tuple[SweepResult, pl.DataFrame], tmp_path: Path
) -> None:
    """The quality calendar shows judged and unjudged symbols, counts what is missing, and lists what is not clean."""
    root, bars = stored[0], sweep[1]
    start, end = bars["timestamp"][0], bars["timestamp"][-1] + timedelta(minutes=15)
    lake = Lake(root)
    lake.write_bars(bars.gather_every(2), symbol="HALF", interval="15m", start=start, end=end)
    path = Path(write_quality_calendar.fn(str(root), "15m", start, end, str(tmp_path / "out")))
    page = path.read_text(encoding="utf-8")
    assert path.name == "quality-15m.html"
    assert "2 symbols" in page
    assert "quality rejected 1 and warned about 1" in page
    assert "Never judged: HALF." in page
    assert page.count('class="badge') == 2
    assert f"{bars.height // 2 - 1:,}" in page
    days, _ = lake_days(lake, "15m", start, end)
    assert days.filter(pl.col("symbol") == "HALF")["status"].unique().to_list() == ["unjudged"]


def test_an_empty_lake_has_no_calendar(tmp_path: Path, sweep: tuple[SweepResult, pl.DataFrame]) -> None:
    """Without bars there is no page, and the message says what to run."""
    start, end = sweep[1]["timestamp"][0], sweep[1]["timestamp"][-1]
    with pytest.raises(InputError, match="backfill"):
        write_quality_calendar.fn(str(tmp_path / "lake"), "15m", start, end, str(tmp_path / "out"))

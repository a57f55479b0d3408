"""Judging the whole lake, its pages, and releases from quarantine."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from flows.backfill import backfill
from flows.quality import quality, quality_lake, release
from flows.research import research
from flows.settings import Settings, use
from lake.coverage import Ledger
from lake.store import Lake
from tasks.errors import InputError, RejectedDataError
from tasks.simulator.faults import Faults
from tasks.simulator.market import generated
from tests.flows.market import trading

MARKET = generated(
    seed=5,
    symbols=("BTCUSDT", "ETHUSDT"),
    interval="5m",
    start=datetime(2025, 1, 1, tzinfo=UTC),
    end=datetime(2025, 2, 15, tzinfo=UTC),
)
SYMBOLS, START = ["BTCUSDT", "ETHUSDT"], date(2025, 1, 1)


def test_only_what_changed_is_judged_again(tmp_path: Path) -> None:
    """A second pass judges nothing; a correction brings exactly its partition back."""
    with trading(MARKET, tmp_path) as (simulator, _):
        asyncio.run(backfill.fn(SYMBOLS, "5m", START))
        first = asyncio.run(quality_lake.fn("5m", start=START, docs=False))
        again = asyncio.run(quality_lake.fn("5m", start=START, docs=False))
        simulator.faults = Faults(inverted_p=0.01)
        asyncio.run(backfill.fn(["ETHUSDT"], "5m", date(2025, 2, 1), refresh=True))
        corrected = asyncio.run(quality_lake.fn("5m", start=START, docs=False))
    assert (first.partitions, first.judged, first.rejected) == (4, 4, ())
    assert again.judged == 0
    assert corrected.judged == 1
    assert "ETHUSDT" in corrected.rejected[0]


def test_pages_are_built(tmp_path: Path) -> None:
    """Data Docs, the quarantine page and the calendar of days are files that need no network."""
    with trading(MARKET, tmp_path, Faults(inverted_p=0.001)) as (_, settings):
        asyncio.run(backfill.fn(SYMBOLS, "5m", START))
        asyncio.run(quality_lake.fn("5m", start=START, docs=True))
    pages = list(settings.report_dir.rglob("*.html"))
    assert (settings.report_dir / "quality-5m.html") in pages
    assert any("data-docs" in page.parts for page in pages)
    assert all('src="http' not in page.read_text(encoding="utf-8") for page in pages)


def test_a_lake_of_older_bars_has_its_page_too(tmp_path: Path) -> None:
    """Where no bar is as new as the calendar's first day, the calendar shows all there are."""
    with trading(MARKET, tmp_path) as (_, settings):
        asyncio.run(backfill.fn(["BTCUSDT"], "5m", date(2025, 2, 1), date(2025, 2, 5)))
        asyncio.run(quality_lake.fn("5m", start=date(2025, 2, 10)))
    assert "2025-02-01 to 2025-02-04" in (settings.report_dir / "quality-5m.html").read_text("utf-8")


def test_a_calendar_that_begins_in_the_future_is_refused_before_judging(tmp_path: Path) -> None:
    """A wrong day costs no pass over the lake."""
    with trading(MARKET, tmp_path):
        asyncio.run(backfill.fn(["BTCUSDT"], "5m", date(2025, 2, 1)))
        with pytest.raises(InputError, match="expected start before end"):
            asyncio.run(quality_lake.fn("5m", start=date(2999, 1, 1)))
        assert asyncio.run(quality_lake.fn("5m", docs=False)).judged == 1


def test_a_person_may_release_what_was_rejected(tmp_path: Path) -> None:
    """With a reason and a name on record research goes on; without them nothing is released."""
    with trading(MARKET, tmp_path, Faults(negative_p=0.0005)):
        days = (["BTCUSDT"], "5m", START)
        with pytest.raises(RejectedDataError, match="release them with a reason"):
            asyncio.run(research.fn(*days))
        with pytest.raises(InputError, match="expected a reason"):
            asyncio.run(release.fn("BTCUSDT", " ", "me", START, date(2025, 3, 1), "5m"))
        with pytest.raises(InputError, match="release: expected start before end, found 2025-03-01 to 2025-01-01"):
            asyncio.run(release.fn("BTCUSDT", "known feed defect", "me", date(2025, 3, 1), START, "5m"))
        count = asyncio.run(release.fn("BTCUSDT", "known feed defect", "me", START, date(2025, 3, 1), "5m"))
        found = asyncio.run(research.fn(*days, grid={"fast": [10], "slow": [30]}))
        released = [verdict for verdict in asyncio.run(quality.fn(*days)) if verdict.released]
    assert count == len(released) > 0
    assert found.reports


def test_a_symbol_that_nobody_fetched_is_no_rejected_one(tmp_path: Path) -> None:
    """A slip of the pen is told, and leaves nothing on record that every later pass would name."""
    with use(Settings(lake_root=str(tmp_path))):
        for judge in (quality.fn(["BTCUSD"], "5m", START), quality_lake.fn("5m", ["BTCUSD"])):
            with pytest.raises(InputError, match=r"none of BTCUSD; run a backfill"):
                asyncio.run(judge)
    assert not Lake(tmp_path).tables()


def test_a_symbol_without_bars_keeps_its_own_calendar(tmp_path: Path) -> None:
    """A weekend that was fetched of a share lacks nothing, though the lake has no bar of it."""
    saturday, monday = datetime(2025, 1, 4, tzinfo=UTC), datetime(2025, 1, 6, tzinfo=UTC)
    Ledger(Lake(tmp_path)).record_answer("AAPL.US", "5m", saturday, monday, asked_at=datetime(2025, 1, 7, tzinfo=UTC))
    with use(Settings(lake_root=str(tmp_path))):
        found = asyncio.run(quality_lake.fn("5m", docs=False))
    assert (found.judged, found.warned, found.rejected) == (1, 1, ())

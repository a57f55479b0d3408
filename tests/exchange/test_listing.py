"""Where a symbol's history begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from lake.absences import bars_by_reason
from lake.coverage import Ledger
from lake.store import Lake
from tasks.exchange.backfill import backfill_range
from tasks.exchange.listing import record_listing
from tasks.exchange.source import SourceSettings
from tasks.simulator.faults import Faults
from tasks.simulator.market import generated
from tasks.simulator.server import Simulator
from tests.exchange.conftest import END, START

LATER = START + timedelta(days=2)


@contextmanager
def vendor(folder: Path, listed_at: datetime, faults: Faults | None = None) -> Iterator[SourceSettings]:
    """A market in which the symbol trades from that moment on."""
    market = generated(seed=7, symbols=("NEWUSDT",), interval="1m", start=listed_at, end=END)
    with Simulator(market, plan="unlimited", faults=faults) as sim:
        yield SourceSettings(
            base_url=sim.url,
            api_key=SecretStr(sim.api_key),
            requests_per_minute=100_000,
            budget_dir=str(folder / "budget"),
            now=END,
        )


async def test_silence_before_the_first_bar_is_the_listing(tmp_path: Path) -> None:
    """Days confirmed empty, and nothing on the page before them: they lie before the listing and are no gap."""
    root = str(tmp_path / "lake")
    with vendor(tmp_path, LATER) as source:
        await backfill_range(root, "NEWUSDT", "1m", START, END, source)
        assert await record_listing(root, "NEWUSDT", "1m", START, END, source) == LATER
        assert await record_listing(root, "NEWUSDT", "1m", START, END, source) is None
    absent = bars_by_reason(Ledger(Lake(root)).absences("NEWUSDT", "1m", START, END, now=END))
    assert (absent["before_listing"], absent["vendor_empty"]) == (2 * 1_440, 0)


async def test_a_hole_at_the_start_of_the_range_stays_a_hole(tmp_path: Path) -> None:
    """Where the vendor has bars before the range, bars missing at its start are reported as missing."""
    root = str(tmp_path / "lake")
    with vendor(tmp_path, START, Faults(lost_p=0.9)) as source:
        receipt = await backfill_range(root, "NEWUSDT", "1m", LATER, END, source)
        assert receipt.missing[0][0] == LATER
        assert await record_listing(root, "NEWUSDT", "1m", LATER, END, source) is None
    absent = bars_by_reason(Ledger(Lake(root)).absences("NEWUSDT", "1m", LATER, END, now=END))
    assert absent["before_listing"] == 0
    assert absent["vendor_empty"] > 1_000


async def test_a_lake_without_bars_shows_no_listing(tmp_path: Path) -> None:
    """Nothing is recorded where nothing is known, and nothing is asked."""
    assert await record_listing(str(tmp_path / "lake"), "NEWUSDT", "1m", START, END, SourceSettings()) is None

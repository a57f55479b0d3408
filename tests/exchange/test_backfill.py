"""From the local market into a lake."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed
from pydantic import SecretStr

from lake.absences import bars_by_reason
from lake.coverage import Ledger
from lake.store import Lake
from tasks.errors import QuotaExhaustedError, TransientError, UnknownSymbolError
from tasks.exchange.backfill import backfill_range, plan_backfill
from tasks.exchange.receipt import BackfillReceipt, PageProgress
from tasks.exchange.source import SourceSettings
from tasks.exchange.task import backfill_month, is_transient
from tasks.simulator.faults import Faults
from tasks.simulator.market import Market, generated
from tasks.simulator.server import Simulator
from tests.exchange.conftest import END, MINUTE, START

PAGES = 5  # three days of minutes


@pytest.fixture
def sim(market: Market) -> Iterator[Simulator]:
    """A local market without a rate limit."""
    with Simulator(market, plan="unlimited") as running:
        yield running


@pytest.fixture
def settings(sim: Simulator, tmp_path: Path) -> SourceSettings:
    """The local market as a source, its budget in the test's folder."""
    return SourceSettings(
        base_url=sim.url,
        api_key=SecretStr(sim.api_key),
        requests_per_minute=100_000,
        budget_dir=str(tmp_path / "budget"),
        now=END,
    )


async def run(root: Path, settings: SourceSettings, symbol: str = "BTCUSDT", **options: object) -> BackfillReceipt:
    """Backfill the three days into the lake at `root`."""
    return await backfill_range(str(root / "lake"), symbol, "1m", START, END, settings, **options)  # type: ignore[arg-type]


def truth(sim: Simulator, symbol: str = "BTCUSDT") -> pl.DataFrame:
    """Return the market's own bars."""
    return sim.market.bars(symbol, "1m", START, END)


async def test_the_lake_equals_the_market(sim: Simulator, settings: SourceSettings, tmp_path: Path) -> None:
    """Bar for bar, in one commit; a second run sends no request and commits nothing."""
    first = await run(tmp_path, settings)
    lake = Lake(tmp_path / "lake")
    bars, version = lake.read_bars("BTCUSDT", "1m"), lake.bars_version("1m")
    assert bars.equals(truth(sim).select(bars.columns))
    assert (first.rows_new, first.requests, first.missing) == (bars.height, PAGES, ())
    second = await run(tmp_path, settings)
    assert (second.requests, second.rows_new, lake.bars_version("1m")) == (0, 0, version)


async def test_a_hole_inside_history_is_found_and_healed(
    sim: Simulator, settings: SourceSettings, tmp_path: Path
) -> None:
    """What an earlier, careless writer left out is planned and fetched in one request, and nothing else is."""
    lake = Lake(tmp_path / "lake")
    holed = truth(sim).filter(~pl.col("timestamp").is_between(START + 500 * MINUTE, START + 600 * MINUTE))
    lake.write_bars(holed, symbol="BTCUSDT", interval="1m", start=START, end=END)
    plan = plan_backfill(str(tmp_path / "lake"), ["BTCUSDT"], "1m", START, END, settings)
    assert (plan.requests, plan.bars) == (1, 101)
    receipt = await run(tmp_path, settings)
    assert (receipt.requests, receipt.rows_new) == (1, 101)
    assert lake.read_bars("BTCUSDT", "1m").height == truth(sim).height


async def test_bars_that_were_lost_since_are_fetched_again(
    sim: Simulator, settings: SourceSettings, tmp_path: Path
) -> None:
    """An answer speaks of the bars it lacked alone: what was deleted between two of them is no lack of the vendor."""
    sim.faults = Faults(lost_p=0.01)
    await run(tmp_path, settings)
    bars = Lake(tmp_path / "lake").read_bars("BTCUSDT", "1m")
    DeltaTable(tmp_path / "lake" / "klines" / "1m").delete("symbol = 'BTCUSDT'")
    assert Lake(tmp_path / "lake").read_bars("BTCUSDT", "1m").is_empty()
    await run(tmp_path, settings)
    assert Lake(tmp_path / "lake").read_bars("BTCUSDT", "1m").equals(bars)


async def test_what_the_vendor_lacks_is_asked_as_often_as_configured(
    sim: Simulator, settings: SourceSettings, tmp_path: Path
) -> None:
    """Lost bars are confirmed n times, reported, and cost nothing from then on."""
    sim.faults = Faults(lost_p=0.01)
    for confirmations in (2, 3):
        root = tmp_path / str(confirmations)
        wanted = settings.model_copy(update={"confirmations": confirmations})
        first = await run(root, wanted)
        lost = truth(sim).height - first.rows_new
        assert lost > 0
        assert sum((end - start) // MINUTE for start, end in first.missing) == lost
        ledger = Ledger(Lake(root / "lake"), confirmations=confirmations)
        absent = bars_by_reason(ledger.absences("BTCUSDT", "1m", START, END, now=END))
        assert absent["vendor_empty"] == lost
        assert absent["to_retry"] == absent["not_fetched"] == 0
        again = await run(root, wanted)
        assert (again.requests, again.missing) == (0, first.missing)
    assert 2 * PAGES < first.requests <= 3 * PAGES


async def test_passing_faults_heal_within_one_run(sim: Simulator, settings: SourceSettings, tmp_path: Path) -> None:
    """Late, doubled and shuffled bars and a forming one: the lake equals the truth, what was done is counted."""
    sim.faults = Faults(missing_p=0.02, duplicate_p=0.02, shuffle_p=0.5, forming_p=1.0)
    receipt = await run(tmp_path, settings)
    bars = Lake(tmp_path / "lake").read_bars("BTCUSDT", "1m")
    assert bars.equals(truth(sim).select(bars.columns))
    assert receipt.duplicates > 0
    assert receipt.missing == ()


async def test_corrections_arrive_on_refresh(sim: Simulator, settings: SourceSettings, tmp_path: Path) -> None:
    """Bars served with provisional values are replaced when the range is asked for again, and counted as revised."""
    sim.faults = Faults(revise_p=0.05)
    await run(tmp_path, settings)
    assert not Lake(tmp_path / "lake").read_bars("BTCUSDT", "1m").equals(truth(sim).select(pl.exclude("symbol")))
    receipt = await run(tmp_path, settings, refresh=True)
    bars = Lake(tmp_path / "lake").read_bars("BTCUSDT", "1m")
    assert bars.equals(truth(sim).select(bars.columns))
    assert receipt.rows_revised > 0
    assert (receipt.rows_new, receipt.requests) == (0, PAGES)


async def test_a_revisit_finds_recent_corrections(sim: Simulator, settings: SourceSettings, tmp_path: Path) -> None:
    """Two wrong bars, one a day old and one three days old: the day's revisit costs two requests and mends one."""
    lake, root = Lake(tmp_path / "lake"), str(tmp_path / "lake")
    old, recent = START, END - timedelta(hours=20)
    wrong = truth(sim).with_columns(close=pl.col("close") + pl.col("timestamp").is_in([old, recent]).cast(pl.Float64))
    lake.write_bars(wrong, symbol="BTCUSDT", interval="1m", start=START, end=END)
    day = timedelta(days=1)
    plan = plan_backfill(root, ["BTCUSDT"], "1m", START, END, settings, revisit=day)
    assert (plan.requests, plan.bars) == (2, 1_440)
    receipt = await run(tmp_path, settings, revisit=day)
    assert (receipt.requests, receipt.rows_new, receipt.rows_revised) == (2, 0, 1)
    assert (await run(tmp_path, settings)).requests == 0
    before = await backfill_range(root, "BTCUSDT", "1m", START, START + day, settings, revisit=day)
    assert before.requests == 0, "a part that ended before the revisited days asks for nothing"


async def test_a_revisit_asks_for_holes_once(sim: Simulator, settings: SourceSettings, tmp_path: Path) -> None:
    """Bars that are absent before and inside the revisited hours come with them, each in one request."""
    lake = Lake(tmp_path / "lake")
    first = pl.col("timestamp").is_between(START, START + 9 * MINUTE)
    across = pl.col("timestamp").is_between(END - 70 * MINUTE, END - 50 * MINUTE)
    lake.write_bars(truth(sim).filter(~first & ~across), symbol="BTCUSDT", interval="1m", start=START, end=END)
    receipt = await run(tmp_path, settings, revisit=timedelta(hours=1))
    assert (receipt.requests, receipt.rows_new) == (2, 31)


async def test_sessions_and_holidays_are_no_gaps(settings: SourceSettings, tmp_path: Path) -> None:
    """A US symbol's nights and a holiday cost no request: four sessions of 390 minutes are two pages."""
    market = generated(seed=3, symbols=("ACME.US",), interval="1m", start=START, end=START + timedelta(days=8))
    with Simulator(market, plan="unlimited") as sim:
        wanted = settings.model_copy(update={"base_url": sim.url, "now": START + timedelta(days=8)})
        end = START + timedelta(days=7)
        root = str(tmp_path / "lake")
        receipt = await backfill_range(root, "ACME.US", "1m", START, end, wanted, calendar="exchange:XNYS")
    assert (receipt.rows_new, receipt.requests, receipt.missing) == (4 * 390, 2, ())


async def test_bars_that_have_not_closed_wait(sim: Simulator, settings: SourceSettings, tmp_path: Path) -> None:
    """A run in the middle of the range fetches what is closed; a later run adds the rest and asks for nothing twice."""
    sim.faults = Faults(forming_p=1.0)
    early = settings.model_copy(update={"now": START + 1_500 * MINUTE + timedelta(seconds=30)})
    first = await run(tmp_path, early)
    assert (first.rows_new, first.missing) == (1_500, ())
    late = await run(tmp_path, settings)
    assert late.rows_new == 3 * 1_440 - 1_500
    assert late.requests == 3


async def test_a_failure_keeps_what_came_before_it(sim: Simulator, settings: SourceSettings, tmp_path: Path) -> None:
    """When the quota runs out the saved pages are in the lake, and the next run asks only for the others."""
    sim.add_key("short", "unlimited", quota=3)
    short = settings.model_copy(update={"api_key": SecretStr("short"), "concurrency": 1})
    with pytest.raises(QuotaExhaustedError):
        await run(tmp_path, short)
    lake = Lake(tmp_path / "lake")
    assert lake.read_bars("BTCUSDT", "1m").height == 3_000
    receipt = await run(tmp_path, settings)
    assert (receipt.requests, receipt.rows_new) == (2, 3 * 1_440 - 3_000)
    assert lake.read_bars("BTCUSDT", "1m").equals(truth(sim).select(pl.exclude("symbol")))


async def test_a_passing_failure_is_written_down(sim: Simulator, settings: SourceSettings, tmp_path: Path) -> None:
    """A window that failed to the end stays to be retried, with the reason beside it."""
    sim.faults = Faults(truncate_p=1.0)
    with pytest.raises(TransientError):
        await run(tmp_path, settings.model_copy(update={"attempts": 1}))
    records = Ledger(Lake(tmp_path / "lake")).records("1m", "BTCUSDT")
    assert records.select("kind", "detail").row(0) == ("failed", "TransientError")
    sim.faults = Faults()
    assert (await run(tmp_path, settings)).rows_new == 3 * 1_440


async def test_an_unknown_symbol_fails_alone(settings: SourceSettings, tmp_path: Path) -> None:
    """The vendor does not list it: nothing is written, and the error says so."""
    with pytest.raises(UnknownSymbolError, match="NOPE"):
        await run(tmp_path, settings, symbol="NOPE")
    assert not Lake(tmp_path / "lake").exists("klines/1m")


async def test_progress_is_told_after_every_page(settings: SourceSettings, tmp_path: Path) -> None:
    """Rows, requests and pages done rise to the plan's figures."""
    heard: list[PageProgress] = []
    await run(tmp_path, settings, progress=heard.append)
    assert [one.done for one in heard] == [1, 2, 3, 4, 5]
    assert heard[-1].rows == 3 * 1_440
    assert (heard[-1].requests, heard[-1].planned) == (PAGES, PAGES)


async def test_nothing_is_left_behind(settings: SourceSettings, tmp_path: Path) -> None:
    """After a run no page waits in the spool."""
    await run(tmp_path, settings)
    assert list((tmp_path / "lake").rglob("*.pages")) == []


async def test_the_door_works_without_prefect(settings: SourceSettings, tmp_path: Path) -> None:
    """The task's function is the plain one: same arguments, same receipt, no server."""
    receipt = await backfill_month.fn(str(tmp_path / "lake"), "ETHUSDT", "1m", START, END, settings)
    assert receipt.rows_new == 3 * 1_440
    assert backfill_month.cache_policy == NO_CACHE


@pytest.mark.parametrize(
    ("error", "again"), [(TransientError("x"), True), (UnknownSymbolError("x"), False), (ValueError("x"), False)]
)
async def test_prefect_reruns_only_what_time_cures(error: Exception, again: bool) -> None:
    """A transient failure is run again; an unknown symbol, a wrong key or a defect is not."""
    assert await is_transient(None, None, Failed(data=error)) is again
    assert backfill_month.retry_condition_fn is is_transient

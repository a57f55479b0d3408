"""Every fault the local market knows is either healed, so that the lake equals the truth, or reported."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flows.backfill import backfill
from flows.quality import quality
from flows.research import research
from lake.store import Lake
from lake.timeline import to_ms
from tasks.errors import InputError, KlinehouseError, RejectedDataError
from tasks.simulator.faults import Faults
from tasks.simulator.market import generated
from tests.flows.market import trading

START, END = date(2025, 1, 1), date(2025, 1, 4)
MARKET = generated(
    seed=11,
    symbols=("BTCUSDT",),
    interval="1m",
    start=datetime(2025, 1, 1, tzinfo=UTC),
    end=datetime(2025, 1, 4, tzinfo=UTC),
)

#: The lake ends equal to the truth and quality passes it.
HEALED = {
    "latency_s": Faults(latency_s=0.01, jitter_s=0.01),
    "storm_p": Faults(storm_p=0.3, storm_requests=2, retry_after_s=1),
    "retry_after_as_date": Faults(storm_p=0.3, storm_requests=2, retry_after_s=1, retry_after_as_date=True),
    "server_error_p": Faults(server_error_p=0.3, seed=2),
    "drop_p": Faults(drop_p=0.15, seed=1),
    "truncate_p": Faults(truncate_p=0.3, seed=2),
    "missing_p": Faults(missing_p=0.02),
    "duplicate_p": Faults(duplicate_p=0.02),
    "shuffle_p": Faults(shuffle_p=1.0),
}

#: Quality rejects the partition, its rows are in quarantine, and research refuses to go on.
REPORTED = {
    "lost_p": Faults(lost_p=0.002),
    "blank_p": Faults(blank_p=0.002),
    "inverted_p": Faults(inverted_p=0.002),
    "negative_p": Faults(negative_p=0.002),
}

#: Quality warns, since a real market can do it too, and the report shows the finding.
WARNED = {
    "spike_p": (Faults(spike_p=0.001), "spike"),
    "frozen_p": (Faults(frozen_p=0.001, frozen_bars=90), "frozen_price"),
}

#: Each has a test of its own below.
OTHERS = {"revise_p", "forming_p"}

#: What only shapes another fault or the dice.
SHAPES = {"seed", "jitter_s", "storm_requests", "retry_after_s", "frozen_bars", "code"}


def truth() -> pl.DataFrame:
    """Return the bars the market really had."""
    return MARKET.bars("BTCUSDT", "1m")


def test_every_fault_is_tried() -> None:
    """A new fault of the simulator has to find its place here."""
    assert {field.name for field in fields(Faults)} == set(HEALED) | set(REPORTED) | set(WARNED) | OTHERS | SHAPES


@pytest.mark.parametrize("name", HEALED)
def test_a_passing_fault_is_healed(name: str, tmp_path: Path) -> None:
    """Bar for bar the lake equals the truth, as if nothing had happened."""
    with trading(MARKET, tmp_path, HEALED[name]) as (simulator, settings):
        found = asyncio.run(backfill.fn(["BTCUSDT"], "1m", START, END))
        if name != "latency_s":
            assert simulator.injected, "the fault never struck: the test would prove nothing"
    assert found[0].error == ""
    assert found[0].missing_ranges == 0
    assert_frame_equal(Lake(settings.lake_root).read_bars("BTCUSDT", "1m"), truth(), check_exact=True)


@pytest.mark.parametrize("name", REPORTED)
def test_a_lasting_fault_is_reported(name: str, tmp_path: Path) -> None:
    """The partition is rejected by name, bad rows lie in quarantine, and research stops before it sweeps."""
    with trading(MARKET, tmp_path, REPORTED[name]) as (simulator, settings):
        with pytest.raises(RejectedDataError, match="BTCUSDT 1m"):
            asyncio.run(research.fn(["BTCUSDT"], "1m", START, END))
        assert simulator.injected
    lake = Lake(settings.lake_root)
    verdicts = lake.scan("quality/verdicts").collect()
    assert verdicts["status"].to_list() == ["reject"]
    if name != "lost_p":
        assert lake.scan("quality/quarantine").collect().height > 0
    assert not lake.exists("sweeps/runs")


@pytest.mark.parametrize("name", WARNED)
def test_a_suspicious_price_is_shown(name: str, tmp_path: Path) -> None:
    """Research goes on, and both the verdict and the report name the finding."""
    faults, rule = WARNED[name]
    with trading(MARKET, tmp_path, faults) as (simulator, _):
        found = asyncio.run(research.fn(["BTCUSDT"], "1m", START, END, grid={"fast": [30], "slow": [240]}))
        assert simulator.injected
    assert [verdict.status for verdict in found.verdicts] == ["warn"]
    assert rule in {finding.rule for finding in found.verdicts[0].findings}
    assert rule in Path(found.reports[0]).read_text(encoding="utf-8")


def test_the_forming_bar_never_lands(tmp_path: Path) -> None:
    """Even a vendor that would serve it as complete is not believed: the run asks for closed bars only."""
    now = datetime(2025, 1, 3, 12, 0, 30, tzinfo=UTC)
    forming = MARKET.at(lambda: to_ms(now))
    with trading(forming, tmp_path, Faults(forming_p=1.0)) as (_, settings):
        asyncio.run(backfill.fn(["BTCUSDT"], "1m", START))
    assert_frame_equal(Lake(settings.lake_root).read_bars("BTCUSDT", "1m"), forming.bars("BTCUSDT", "1m"))


def test_a_restated_bar_is_replaced_and_counted(tmp_path: Path) -> None:
    """Provisional values served first are replaced by the vendor's later ones, and the run says how many."""
    with trading(MARKET, tmp_path, Faults(revise_p=0.01)) as (simulator, settings):
        asyncio.run(backfill.fn(["BTCUSDT"], "1m", START, END))
        provisional = len(simulator.injected)
        again = asyncio.run(backfill.fn(["BTCUSDT"], "1m", START, END, refresh=True))
    assert provisional > 0
    assert again[0].rows_revised == provisional
    assert_frame_equal(Lake(settings.lake_root).read_bars("BTCUSDT", "1m"), truth(), check_exact=True)


@pytest.mark.parametrize("code", [1001, 1002, 1003, 1004, 2001, 2002, 2003, 2004, 3002, 4001, 5000, 5001, 5002])
def test_every_vendor_code_fails_with_its_cure(code: int, tmp_path: Path) -> None:
    """A run that cannot go on says which code the vendor gave, and writes nothing."""
    with trading(MARKET, tmp_path, Faults(code=code)) as (_, settings):
        with pytest.raises(KlinehouseError, match=str(code)):
            asyncio.run(backfill.fn(["BTCUSDT"], "1m", START, END))
        assert Lake(settings.lake_root).symbols("1m") == []


def test_nothing_fetched_is_no_pass(tmp_path: Path) -> None:
    """A lake without bars is refused, not waved through by an empty table."""
    with trading(MARKET, tmp_path), pytest.raises(InputError, match="run a backfill"):
        asyncio.run(quality.fn(["BTCUSDT"], "1m", START, END))

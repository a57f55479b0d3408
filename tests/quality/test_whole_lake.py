"""The whole lake's tier: it finds exactly what is wrong, reads only what changed, and agrees with the write path."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.coverage import Ledger
from lake.store import Lake
from tasks.quality import quarantine, verdicts
from tasks.quality.docs import build_docs
from tasks.quality.outliers import outlier_scores
from tasks.quality.partition import check
from tasks.quality.plan import Market
from tasks.quality.profiles import PROFILES, read_profiles
from tasks.quality.thresholds import Thresholds
from tasks.quality.whole_lake import check_lake
from tests.quality.conftest import TickingClock

HOUR = timedelta(hours=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
MIDDLE = datetime(2024, 2, 1, tzinfo=UTC)
END = datetime(2024, 3, 1, tzinfo=UTC)
STEP = timedelta(minutes=30)
COUNT = (END - START) // STEP
ROW = pl.int_range(pl.len())

Make = Callable[..., pl.DataFrame]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Return an empty lake, an hour after February 2024."""
    return Lake(tmp_path / "lake", clock=TickingClock(END + HOUR))


def _fill(lake: Lake, make_bars: Make, symbols: int = 2, **changes: pl.Expr) -> pl.DataFrame:
    """Write two months of hourly bars of each symbol; `changes` go into the first one."""
    for number in range(symbols):
        bars = make_bars(COUNT, start=START, step=STEP, seed=number)
        if number == 0:
            bars = bars.with_columns(**changes)
        lake.write_bars(bars, symbol=f"S{number}", interval="30m", start=START, end=END)
    return make_bars(COUNT, start=START, step=STEP, seed=0)


def _statuses(lake: Lake) -> dict[tuple[str, datetime], str]:
    rows = verdicts.current(lake, "30m").select("symbol", "partition_start", "status").iter_rows()
    return {(symbol, start): status for symbol, start, status in rows}


def test_the_injected_partition_is_rejected_and_no_other(lake: Lake, make_bars: Make) -> None:
    """Of four partitions the one with a bad bar is rejected; its bar lies in quarantine with the reason."""
    _fill(lake, make_bars, low=pl.when(ROW == 100).then(-1.0).otherwise("low"))
    receipt = check_lake(lake, "30m")
    assert (receipt.partitions, receipt.judged, receipt.rows, receipt.passed) == (4, 4, 2 * COUNT, 3)
    assert [text.split(": ")[:2] for text in receipt.rejected] == [["S0 30m [2024-01-01, 2024-02-01)", "reject"]]
    assert _statuses(lake)[("S0", START)] == "reject"
    held = quarantine.read(lake)
    assert held["timestamp"].to_list() == [START + 100 * STEP]
    assert "bad_price" in held["reasons"][0]


def test_both_tiers_come_to_the_same_verdict(lake: Lake, make_bars: Make) -> None:
    """The write path and the whole-lake pass agree finding by finding, samples included."""
    _fill(
        lake,
        make_bars,
        high=pl.when(ROW == 10).then(pl.col("low") / 2).otherwise("high"),
        volume=pl.when(ROW == 1900).then(float("nan")).otherwise("volume"),
    )
    check_lake(lake, "30m")
    by_lake = verdicts.current(lake).select(
        "symbol", "partition_start", "status", "rows", "findings_json", "content_hash"
    )
    for symbol in ("S0", "S1"):
        for start, end in ((START, MIDDLE), (MIDDLE, END)):
            check(lake, symbol, "30m", start, end, calendar="always_open", thresholds=Thresholds())
    assert verdicts.current(lake).select(by_lake.columns).equals(by_lake)
    assert sorted(by_lake["status"]) == ["pass", "pass", "reject", "reject"]


def test_nothing_is_judged_twice(lake: Lake, make_bars: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second pass over an unchanged lake reads no bar and judges nothing, and still names what is rejected."""
    _fill(lake, make_bars, low=pl.when(ROW == 100).then(-1.0).otherwise("low"))
    assert check_lake(lake, "30m").judged == 4
    monkeypatch.setattr(Lake, "read_bars", lambda *_, **__: pytest.fail("an unchanged partition was read"))
    receipt = check_lake(lake, "30m")
    assert (receipt.partitions, receipt.judged, len(receipt.rejected)) == (4, 0, 1)


def test_what_the_write_path_judged_is_not_judged_again(lake: Lake, make_bars: Make) -> None:
    """A partition that was judged when it was written keeps that verdict; the others get theirs."""
    _fill(lake, make_bars, symbols=1)
    check(lake, "S0", "30m", START, MIDDLE, calendar="always_open", thresholds=Thresholds())
    receipt = check_lake(lake, "30m")
    assert (receipt.partitions, receipt.judged) == (2, 1)


def test_only_the_changed_partition_is_judged_again(lake: Lake, make_bars: Make) -> None:
    """One revised bar in February leads to one new verdict, and healing it empties the quarantine."""
    sound = _fill(lake, make_bars, close=pl.when(ROW == 2000).then(pl.col("high") * 2).otherwise("close"))
    assert len(check_lake(lake, "30m").rejected) == 1
    assert quarantine.read(lake).height == 1
    lake.write_bars(sound[2000:2001], symbol="S0", interval="30m", start=START, end=END)
    receipt = check_lake(lake, "30m")
    assert (receipt.judged, receipt.passed) == (1, 1)
    assert quarantine.read(lake).is_empty()
    assert set(_statuses(lake).values()) == {"pass"}


def test_a_bar_revised_in_the_middle_of_a_decade_is_judged_again(lake: Lake, make_bars: Make) -> None:
    """Daily bars are judged by the decade and stored by the year: a revision in any of its years is noticed."""
    start, end, day = datetime(2012, 1, 1, tzinfo=UTC), datetime(2016, 1, 1, tzinfo=UTC), timedelta(days=1)
    bars = make_bars((end - start) // day, start=start, step=day)
    lake.write_bars(bars, symbol="S0", interval="1d", start=start, end=end)
    assert check_lake(lake, "1d").passed == 1
    broken = bars[900:901].with_columns(low=pl.lit(-1.0))
    lake.write_bars(broken, symbol="S0", interval="1d", start=start, end=end)
    assert len(check_lake(lake, "1d").rejected) == 1


def test_a_jump_at_the_edge_of_two_partitions_is_seen_by_both_tiers(lake: Lake, make_bars: Make) -> None:
    """February opens half above January's close: its first bar is compared with the bar before it."""
    prices = ("open", "high", "low", "close", "quote_volume")
    lifted = {name: pl.when(pl.col("timestamp") >= MIDDLE).then(pl.col(name) * 1.5).otherwise(name) for name in prices}
    _fill(lake, make_bars, symbols=1, **lifted)
    check_lake(lake, "30m")
    assert _statuses(lake) == {("S0", START): "pass", ("S0", MIDDLE): "warn"}
    (found,) = verdicts.current(lake).filter(status="warn")["findings_json"]
    assert '"jump"' in found
    verdict = check(lake, "S0", "30m", MIDDLE, END, calendar="always_open", thresholds=Thresholds())
    assert [(finding.rule, finding.rows, finding.sample) for finding in verdict.findings] == [("jump", 1, (MIDDLE,))]


@pytest.mark.parametrize("step", ["quarantine.put", "store", "append_profiles"])
def test_a_crash_between_two_steps_is_made_good_by_the_next_run(
    lake: Lake, make_bars: Make, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Wherever a run dies, the next one leaves the same verdicts and quarantine as if nothing had happened."""
    _fill(lake, make_bars, low=pl.when(ROW == 100).then(-1.0).otherwise("low"))
    with monkeypatch.context() as patch:
        patch.setattr(f"tasks.quality.whole_lake.{step}", lambda *_, **__: pytest.exit("killed", returncode=1))
        with pytest.raises(pytest.exit.Exception):
            check_lake(lake, "30m")
    assert len(check_lake(lake, "30m").rejected) == 1
    assert sorted(_statuses(lake).values()) == ["pass", "pass", "pass", "reject"]
    assert quarantine.read(lake)["timestamp"].to_list() == [START + 100 * STEP]
    assert read_profiles(lake, "30m").height == 4


def test_other_limits_judge_everything_anew(lake: Lake, make_bars: Make) -> None:
    """A verdict belongs to the limits it was reached by; changing a symbol's limits judges that symbol again."""
    _fill(lake, make_bars)
    check_lake(lake, "30m")
    strict = {"S1": Market(thresholds=Thresholds(max_jump=1e-9, max_spike=0.3))}
    receipt = check_lake(lake, "30m", markets=strict)
    assert receipt.judged == 2


def test_a_month_that_was_fetched_and_is_empty_is_rejected(lake: Lake, make_bars: Make) -> None:
    """The ledger says March was fetched: no bar of it is a defect, although no file tells of it."""
    _fill(lake, make_bars, symbols=1)
    april = datetime(2024, 4, 1, tzinfo=UTC)
    Ledger(lake).record_answer("S0", "30m", END, april, asked_at=april + HOUR)
    receipt = check_lake(lake, "30m", as_of=april + HOUR)
    assert receipt.partitions == 3
    assert _statuses(lake)[("S0", END)] == "reject"
    assert quarantine.read(lake).height == (april - END) // STEP


def test_bars_before_the_listing_are_not_missing(lake: Lake, make_bars: Make) -> None:
    """A symbol listed in the middle of January has no gap before its first day."""
    bars = make_bars(COUNT, start=START, step=STEP)
    listed = START + 300 * STEP
    lake.write_bars(bars[300:], symbol="S0", interval="30m", start=START, end=END)
    ledger = Ledger(lake)
    ledger.record_answer("S0", "30m", START, END, asked_at=END)
    assert len(check_lake(lake, "30m").rejected) == 1
    ledger.record_listing("S0", "30m", listed)
    receipt = check_lake(lake, "30m")
    assert (receipt.judged, receipt.rejected) == (1, ())
    assert check(lake, "S0", "30m", START, END, calendar="always_open", thresholds=Thresholds()).status == "pass"


def test_a_volatility_that_no_peer_shares_is_a_warning(lake: Lake, make_bars: Make) -> None:
    """One symbol's February swings thirty times wider: a warning; a month in which all swing wider is none."""
    for number in range(6):
        bars = make_bars(COUNT, start=START, step=STEP, seed=number)
        if number == 0:
            factor = pl.when((ROW >= 1488) & (ROW % 2 == 0)).then(1.02).otherwise(1.0)
            bars = bars.with_columns(pl.col("open", "high", "low", "close", "quote_volume") * factor)
        lake.write_bars(bars, symbol=f"S{number}", interval="30m", start=START, end=END)
    check_lake(lake, "30m")
    rules = verdicts.current(lake).filter(pl.col("findings_json").str.contains("cross_symbol_outlier"))
    # the median of two months lies between them, so that the calm one is as far from it as the wild one
    assert set(rules["symbol"]) == {"S0"}
    assert set(rules["status"]) == {"warn"}


def test_a_month_that_grows_is_not_its_own_peer(lake: Lake, make_bars: Make, tmp_path: Path) -> None:
    """Six nights of one symbol's running month are one partition: on the pages, and where peers are compared."""
    bars = make_bars(7 * 48, start=MIDDLE, step=STEP)
    for day in range(1, 7):
        lake.write_bars(bars[: day * 48], symbol="S0", interval="30m", start=MIDDLE, end=MIDDLE + timedelta(days=day))
        check_lake(lake, "30m")
    assert read_profiles(lake, "30m")["outlier_score"].null_count() == 6
    assert "All 1 partitions" in build_docs(lake, "30m", tmp_path / "docs").read_text(encoding="utf-8")


def test_an_empty_lake_has_nothing_to_judge(lake: Lake) -> None:
    """No table, no partitions, no verdict, no error."""
    receipt = check_lake(lake, "1m")
    assert (receipt.partitions, receipt.judged, receipt.rejected) == (0, 0, ())


def test_a_calm_symbol_and_a_wild_month_are_no_outliers() -> None:
    """Scores compare changes: neither a stablecoin nor a crash of the whole market stands out."""
    rows = [
        {"symbol": f"S{s}", "partition_start": START + m * 30 * 24 * HOUR, "volatility": level * (8 if m == 3 else 1)}
        for s, level in enumerate([1e-6, 1e-3, 1.1e-3, 0.9e-3, 2e-3, 1.5e-3])
        for m in range(6)
    ]
    assert outlier_scores(pl.DataFrame(rows)).abs().max() < 0.01
    assert outlier_scores(pl.DataFrame(rows[:24])).null_count() == 24, "four symbols are too few to compare"


def test_profiles_are_kept_for_each_partition(lake: Lake, make_bars: Make) -> None:
    """The profile of every partition is in the lake, once, with what was counted."""
    _fill(lake, make_bars)
    check_lake(lake, "30m")
    check_lake(lake, "30m")
    found = read_profiles(lake, "30m")
    assert found.height == 4
    assert found["rows"].sum() == found["expected_rows"].sum() == 2 * COUNT
    assert lake.scan(PROFILES).collect().height == 4

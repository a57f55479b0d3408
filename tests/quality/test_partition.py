"""The write path: what the lake holds is judged, the verdict kept, bad bars quarantined, and research refuses them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.calendar import TradingCalendar
from lake.schema import as_bars
from lake.store import Lake
from lake.timeline import interval
from tasks.errors import DisagreementError, InputError, RejectedDataError
from tasks.quality import quarantine, verdicts
from tasks.quality.partition import check
from tasks.quality.profile import check_bars
from tasks.quality.task import check_partition
from tasks.quality.thresholds import Thresholds, for_market
from tests.quality.conftest import TickingClock

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
START = datetime(2024, 3, 4, tzinfo=UTC)
END = START + timedelta(minutes=600)
NOW = END + timedelta(hours=1)

Make = Callable[..., pl.DataFrame]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Return an empty lake an hour after the bars' end."""
    return Lake(tmp_path / "lake", clock=TickingClock(NOW))


def _write(lake: Lake, bars: pl.DataFrame, symbol: str = "BTCUSDT") -> None:
    lake.write_bars(bars, symbol=symbol, interval="1m", start=START, end=END)


def _check(lake: Lake, symbol: str = "BTCUSDT") -> verdicts.Verdict:
    return check(lake, symbol, "1m", START, END, calendar="always_open", thresholds=Thresholds())


def test_sound_bars_pass_and_leave_nothing_in_quarantine(lake: Lake, make_bars: Make) -> None:
    """A sound partition passes, is on record, and research may use it."""
    _write(lake, make_bars())
    verdict = _check(lake)
    assert (verdict.status, verdict.rows, verdict.expected_rows, verdict.findings) == ("pass", 600, 600, ())
    assert verdicts.current(lake)["status"].to_list() == ["pass"]
    assert quarantine.read(lake).is_empty()
    verdicts.refuse_rejected(lake, ["BTCUSDT"], "1m", START, END)


def test_a_rejected_partition_is_quarantined_and_refused(lake: Lake, make_bars: Make) -> None:
    """Bad and absent bars lie in quarantine with their reasons; research is refused by name of partition and rule."""
    bars = make_bars().with_columns(high=pl.when(pl.int_range(pl.len()) == 5).then(1.0).otherwise("high"))
    _write(lake, bars.filter(pl.int_range(pl.len()) != 300))
    verdict = _check(lake)
    assert verdict.status == "reject"
    held = quarantine.read(lake)
    assert dict(held.select("timestamp", "reasons").iter_rows()) == {
        START + timedelta(minutes=5): "price_order quote_volume_mismatch",
        START + timedelta(minutes=300): "missing gap",
    }
    with pytest.raises(RejectedDataError, match=r"BTCUSDT 1m .*missing \(1\), gap \(1\), price_order \(1\)"):
        verdicts.refuse_rejected(lake, ["BTCUSDT"], "1m", START, END)
    verdicts.refuse_rejected(lake, ["ETHUSDT"], "1m", START, END)
    verdicts.refuse_rejected(lake, ["BTCUSDT"], "1m", END, END + timedelta(days=1))


def test_mended_bars_pass_and_empty_the_quarantine(lake: Lake, make_bars: Make) -> None:
    """After a second fetch has filled the gap the partition passes and its rows leave quarantine."""
    bars = make_bars()
    _write(lake, bars.filter(pl.int_range(pl.len()) != 300))
    assert _check(lake).status == "reject"
    _write(lake, bars)
    assert _check(lake).status == "pass"
    assert quarantine.read(lake).is_empty()
    verdicts.refuse_rejected(lake, ["BTCUSDT"], "1m", START, END)
    assert lake.scan(verdicts.VERDICTS).collect().height == 2, "both verdicts stay on record"


def test_an_empty_partition_never_passes(lake: Lake) -> None:
    """Where bars were expected and none came the verdict is reject, with the row count saying so."""
    verdict = _check(lake)
    assert verdict.status == "reject"
    assert {finding.rule for finding in verdict.findings} >= {"empty", "missing"}
    assert quarantine.read(lake).height == 600


def test_a_release_is_on_record_and_ends_with_the_content(lake: Lake, make_bars: Make) -> None:
    """A release with a reason lifts the refusal of exactly those bars; other bars are judged and refused anew."""
    bars = make_bars().with_columns(low=pl.when(pl.int_range(pl.len()) == 5).then(-1.0).otherwise("low"))
    _write(lake, bars)
    _check(lake)
    count = verdicts.release(
        lake, "BTCUSDT", "1m", START, END, reason="vendor confirmed the print", released_by="maria"
    )
    assert count == 1
    verdicts.refuse_rejected(lake, ["BTCUSDT"], "1m", START, END)
    row = verdicts.current(lake).row(0, named=True)
    verdict = _check(lake)
    assert (verdict.status, verdict.released, verdict.refused) == ("reject", True, False)
    assert (row["released"], row["release_reason"], row["released_by"]) == (True, "vendor confirmed the print", "maria")
    verdicts.refuse_rejected(lake, ["BTCUSDT"], "1m", START, END)
    _write(lake, bars.with_columns(close=pl.col("close") * 1.00001))
    _check(lake)
    with pytest.raises(RejectedDataError):
        verdicts.refuse_rejected(lake, ["BTCUSDT"], "1m", START, END)


def test_an_empty_partition_is_not_released_by_another_ones_release(lake: Lake) -> None:
    """No bars are no bars of any symbol: who releases one empty partition releases no other."""
    _check(lake)
    verdicts.release(lake, "BTCUSDT", "1m", START, END, reason="delisted", released_by="maria")
    assert _check(lake).released
    assert _check(lake, "ETHUSDT").refused


def test_a_release_without_reason_or_name_is_refused(lake: Lake, make_bars: Make) -> None:
    """Nobody releases anything without saying why and who."""
    _write(lake, make_bars().head(10))
    _check(lake)
    for reason, name in (("", "maria"), ("  ", "maria"), ("known", "")):
        with pytest.raises(InputError, match="expected a reason and the name"):
            verdicts.release(lake, "BTCUSDT", "1m", START, END, reason=reason, released_by=name)


def test_releasing_what_is_not_rejected_is_an_error(lake: Lake, make_bars: Make) -> None:
    """A release that would release nothing says so instead of going on record."""
    _write(lake, make_bars())
    _check(lake)
    with pytest.raises(InputError, match="expected a rejected partition"):
        verdicts.release(lake, "BTCUSDT", "1m", START, END, reason="why not", released_by="maria")


def test_a_later_verdict_on_a_wider_range_replaces_the_narrow_one(lake: Lake, make_bars: Make) -> None:
    """A rejected half day no longer counts once the whole day has been judged and passed."""
    bars = make_bars()
    _write(lake, bars.head(10))
    half = START + timedelta(minutes=300)
    assert check(lake, "BTCUSDT", "1m", START, half, calendar="always_open", thresholds=Thresholds()).status == "reject"
    _write(lake, bars)
    _check(lake)
    verdicts.refuse_rejected(lake, ["BTCUSDT"], "1m", START, END)
    assert verdicts.current(lake).height == 1


def test_the_verdict_carries_limits_and_version(lake: Lake, make_bars: Make) -> None:
    """A verdict says by which limits it was reached; other limits have another version."""
    _write(lake, make_bars())
    strict = _check(lake)
    loose = check(lake, "BTCUSDT", "1m", START, END, calendar="always_open", thresholds=Thresholds(max_jump=0.3))
    assert strict.suite_version != loose.suite_version
    assert json.loads(verdicts.current(lake)["thresholds_json"][0])["max_jump"] == 0.3


def test_bars_that_disagree_with_a_finer_table_are_rejected(lake: Lake, make_bars: Make) -> None:
    """A five-minute bar that is not what its minutes make is found, and the minutes are not blamed."""
    from tasks.quality.resample import resample

    bars = make_bars()
    _write(lake, bars)
    fives = resample(bars, bars["timestamp"], interval("5m"))
    assert fives.height == 120
    wrong = fives.with_columns(close=pl.when(pl.int_range(pl.len()) == 7).then("low").otherwise("close"))
    lake.write_bars(wrong, symbol="BTCUSDT", interval="5m", start=START, end=END)
    verdict = check(lake, "BTCUSDT", "5m", START, END, calendar="always_open", thresholds=Thresholds())
    (finding,) = verdict.findings
    assert (finding.rule, finding.rows, finding.sample) == ("resample_mismatch", 1, (START + timedelta(minutes=35),))
    assert _check(lake).status == "pass"


def test_a_disagreement_with_great_expectations_withholds_the_verdict(
    lake: Lake, make_bars: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the suite finds less than the profile nothing is stored: one of the two is wrong."""
    from tasks.quality import suite

    _write(lake, make_bars().with_columns(volume=-1.0))
    monkeypatch.setattr(suite, "judge_rows", lambda *_: suite.Outcome((), None))
    with pytest.raises(DisagreementError, match="negative_volume"):
        _check(lake)
    assert not lake.exists(verdicts.VERDICTS)


def test_an_exception_inside_an_expectation_is_not_a_verdict(
    lake: Lake, make_bars: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Great Expectations turns exceptions into failures; here they are errors that name the rule."""
    from tasks.quality import suite

    _write(lake, make_bars())
    _check(lake)  # the suite is built; now one of its expectations breaks
    monkeypatch.setattr(suite, "interval_named", lambda _: None)
    with pytest.raises(DisagreementError, match="expected Great Expectations to evaluate rule"):
        _check(lake)


def test_a_loop_over_partitions_keeps_no_results(lake: Lake, make_bars: Make) -> None:
    """Great Expectations' context would keep every result of the process; judging leaves none behind."""
    from tasks.quality import suite

    _write(lake, make_bars())
    _check(lake)
    _check(lake)
    assert suite.context().validation_results_store.list_keys() == []


def test_any_number_of_limits_is_judged_by(lake: Lake, make_bars: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that were not used for long are forgotten and may come back: the 33rd took a name that was not free."""
    from tasks.quality import suite

    monkeypatch.setattr(suite, "_KEPT", 2)
    _write(lake, make_bars().with_columns(volume=-1.0))
    limits = [Thresholds(max_jump=0.2 + number / 100) for number in range(3)]
    for thresholds in [*limits, limits[0]]:
        verdict = check(lake, "BTCUSDT", "1m", START, END, calendar="always_open", thresholds=thresholds)
        assert "negative_volume" in {finding.rule for finding in verdict.findings}
    assert list(suite._BARS_CHECKPOINTS) == [f"bars_1m_{thresholds.version}" for thresholds in (limits[2], limits[0])]


def test_the_door_works_without_a_server(tmp_path: Path, make_bars: Make) -> None:
    """`check_partition.fn` takes keys, judges, and returns a small result."""
    _write(Lake(tmp_path), make_bars())
    verdict = check_partition.fn(str(tmp_path), "BTCUSDT", "1m", START, END)
    assert str(verdict) == "BTCUSDT 1m [2024-03-04, 2024-03-04): pass"


def test_importing_the_door_does_not_load_great_expectations() -> None:
    """A flow imports the door in every process; only judging pays for Great Expectations."""
    code = "import sys, tasks.quality.task; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _real(name: str) -> pl.DataFrame:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"real bars are not here: {path}")
    return as_bars(pl.read_parquet(path))


def test_real_bitcoin_minutes_pass() -> None:
    """45,031 real minutes of a market that never closes pass without a warning."""
    bars = _real("BTC-PERP.1m.parquet")
    end = bars["timestamp"][-1] + timedelta(minutes=1)
    expected = TradingCalendar.always_open().expected_opens("1m", bars["timestamp"][0], end)
    limits = for_market("crypto", "1m")
    found = check_bars(bars, interval=interval("1m"), expected=expected, as_of=end, thresholds=limits)
    assert (found.status, found.findings) == ("pass", ())


def test_real_daily_nvidia_passes() -> None:
    """Sixteen years of daily bars: holidays, the days after 11 September 2001 and splits are no defects."""
    bars = _real("NVDA.US.1d.parquet")
    end = bars["timestamp"][-1] + timedelta(days=1)
    expected = TradingCalendar.from_exchange("XNYS").expected_opens("1d", bars["timestamp"][0], end)
    limits = for_market("equity", "1d")
    found = check_bars(bars, interval=interval("1d"), expected=expected, as_of=end, thresholds=limits)
    assert (found.status, found.findings) == ("pass", ())


@pytest.mark.parametrize(("minute", "status"), [(1, "pass"), (0, "warn")])
def test_real_euro_futures_minutes_pass(minute: int, status: str) -> None:
    """Daily breaks, weekends and 423 empty minutes pass; that the file labels bars by their close is a warning."""
    bars = _real("6EH4.1m.parquet")
    days = [date(2024, 1, 2) + timedelta(days=n) for n in range(31)]
    hours = [(time(17, minute), time(16, minute))]
    calendar = TradingCalendar.from_sessions([d for d in days if d.weekday() < 5], [], hours, "America/Chicago")
    end = bars["timestamp"][-1] + timedelta(minutes=1)
    expected = calendar.expected_opens("1m", datetime(2024, 1, 1, 23, tzinfo=UTC), end)
    limits = for_market("futures", "1m")
    found = check_bars(bars, interval=interval("1m"), expected=expected, as_of=end, thresholds=limits)
    assert found.status == status
    assert {(f.rule, f.rows) for f in found.findings} == ({("outside_session", 22)} if status == "warn" else set())

"""A correction replaces the bar, is recorded for good, and names the runs it touches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lake.impact import impact
from lake.location import Location
from lake.revisions import revisions, settle
from lake.schema import BARS
from lake.store import Lake
from lake.table import Table
from tasks.errors import InputError

START = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
Maker = Callable[..., pl.DataFrame]


def write(lake: Lake, bars: pl.DataFrame, symbol: str = "BTCUSDT"):
    """Write one-minute bars."""
    return lake.write_bars(bars, symbol=symbol, interval="1m", start=START, end=START + timedelta(days=99))


def corrected(bars: pl.DataFrame, place: int, close: float = 7.0) -> pl.DataFrame:
    """Return the one bar at `place` with another close and a quote volume."""
    return bars.slice(place, 1).with_columns(close=close, quote_volume=1.5)


def test_old_and_new_values_are_recorded(root: Path, make_bars: Maker) -> None:
    """Each value that changed is one row: old, new, when seen and since which version; equal values are none."""
    seen_at = datetime(2024, 6, 1, 12, 30, tzinfo=UTC)
    lake, bars = Lake(root, clock=lambda: seen_at), make_bars(10, START)
    write(lake, bars)
    receipt = write(lake, corrected(bars, 3))
    old = bars["close"][3]
    opened = START + 3 * MINUTE
    assert revisions(lake, "1m").rows() == [
        ("BTCUSDT", opened, "close", old, 7.0, seen_at, receipt.version),
        ("BTCUSDT", opened, "quote_volume", None, 1.5, seen_at, receipt.version),
    ]
    assert revisions(lake, "1m", "ETHUSDT").is_empty()
    assert revisions(lake, "1m", "BTCUSDT", START, START + 3 * MINUTE).is_empty()


def test_many_corrections_keep_bar_and_column_together(lake: Lake, make_bars: Maker) -> None:
    """Of a write that corrects many bars in many columns, every row has the old and the new value of its own cell."""
    bars = make_bars(50, START)
    changed = bars.with_columns(close=pl.col("close") * 1.01, high=pl.col("high") * 1.02, volume=pl.col("volume") + 1)
    write(lake, bars)
    write(lake, changed)
    rows = revisions(lake, "1m")
    assert rows.height == 150
    for column, cells in rows.group_by("column"):
        name, ordered = str(column[0]), cells.sort("timestamp")
        assert ordered["old"].to_list() == bars[name].to_list()
        assert ordered["new"].to_list() == changed[name].to_list()


def test_nothing_revised_nothing_recorded(lake: Lake, make_bars: Maker) -> None:
    """New bars and bars written again are no corrections."""
    bars = make_bars(20, START)
    write(lake, bars.head(10))
    write(lake, bars.slice(5))
    assert revisions(lake, "1m").is_empty()
    assert not lake.exists("revisions/1m")


def test_reads_as_of_a_moment(root: Path, make_bars: Maker) -> None:
    """Many corrections later, the bars as known at each moment before them read with the same hash."""
    ticks: Iterator[datetime] = iter([START + timedelta(seconds=n) for n in range(10_000)])
    moments: list[datetime] = []
    lake = Lake(root, clock=lambda: moments.append(next(ticks)) or moments[-1])  # type: ignore[func-returns-value]
    random, bars = np.random.default_rng(5), make_bars(500, START)
    write(lake, bars)
    known = []
    for _ in range(30):
        known.append((lake.now(), lake.content_hash("1m", "BTCUSDT")))
        write(lake, corrected(bars, int(random.integers(500)), float(random.random())))
    assert len({content for _, content in known}) == 30
    for moment, content in known[::9]:
        assert lake.content_hash("1m", "BTCUSDT", as_of=moment) == content
    assert lake.read_bars("BTCUSDT", "1m", as_of=known[0][0]).equals(bars)
    assert lake.read_bars("BTCUSDT", "1m", as_of=START - timedelta(days=1)).is_empty()
    with pytest.raises(InputError, match="both"):
        lake.read_bars("BTCUSDT", "1m", as_of=START, version=3)


def test_impact_names_exactly_the_touched_runs(lake: Lake, make_bars: Maker) -> None:
    """Of many runs over many ranges, a hundred corrections touch those that read the bar before it changed."""
    random, bars = np.random.default_rng(11), make_bars(400, START)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        write(lake, bars, symbol)
    runs: list[tuple[str, str, int, int, int | None]] = []
    changes: list[tuple[str, int, int]] = []
    for number in range(100):
        symbol = ("BTCUSDT", "ETHUSDT")[random.integers(2)]
        if number % 5 == 0:
            first, last = sorted(random.integers(0, 401, 2).tolist())
            runs.append((f"run-{number:03}", symbol, first, last, lake.bars_version("1m")))
        place = int(random.integers(400))
        receipt = write(lake, corrected(bars, place, float(random.random())), symbol)
        changes.append((symbol, place, receipt.version))
    rows = [
        (name, symbol, "1m", START + a * MINUTE, START + b * MINUTE, version) for name, symbol, a, b, version in runs
    ]
    columns = ["run_id", "symbol", "interval", "start", "end", "lake_version"]
    lake.append("sweeps/runs", pl.DataFrame(rows, schema=columns, orient="row"))

    truth = {}
    for name, symbol, a, b, version in runs:
        hit = {place for who, place, at in changes if who == symbol and a <= place < b and at > (version or 0)}
        if hit:
            truth[name] = len(hit)
    assert 0 < len(truth) < len(runs)
    assert dict(impact(lake).select("run_id", "revised_bars").iter_rows()) == truth


def test_impact_reads_a_runs_record(lake: Lake, make_bars: Maker) -> None:
    """A run that keeps its range and version in its JSON record is judged the same; an open range is all of it."""
    bars = make_bars(10, START)
    version = write(lake, bars).version
    record = [f'{{"lake_version": {version}, "end": "2024-01-01T00:03:00+00:00"}}', f'{{"lake_version": {version}}}']
    runs = pl.DataFrame({"run_id": ["early", "open"], "symbol": "BTCUSDT", "interval": "1m", "record": record})
    assert impact(lake).is_empty()
    lake.append("sweeps/runs", runs)
    assert impact(lake).is_empty()
    write(lake, corrected(bars, 3))
    assert impact(lake)["run_id"].to_list() == ["open"]


def test_impact_counts_bars_that_came_late(lake: Lake, make_bars: Maker) -> None:
    """A hole that is filled after a run read across it touches that run; bars that closed after it do not."""
    bars = make_bars(100, START)
    version = write(lake, bars.filter(~pl.int_range(100).is_between(40, 42) & (pl.int_range(100) < 80))).version
    bounds = {"early": (0, 40), "across": (30, 50), "inside": (41, 90), "after": (43, 90), "all": (0, 100)}
    rows = [(name, "BTCUSDT", "1m", START + a * MINUTE, START + b * MINUTE, version) for name, (a, b) in bounds.items()]
    rows.append(("open", "BTCUSDT", "1m", None, None, version))
    columns = ["run_id", "symbol", "interval", "start", "end", "lake_version"]
    lake.append("sweeps/runs", pl.DataFrame(rows, schema=columns, orient="row"))
    assert impact(lake).is_empty()
    write(lake, bars)
    write(lake, corrected(bars, 35))
    found = {
        name: (revised, late) for name, revised, late in impact(lake)["run_id", "revised_bars", "late_bars"].rows()
    }
    assert found == {"early": (1, 0), "across": (1, 3), "inside": (0, 2), "all": (1, 3), "open": (1, 3)}


def test_impact_names_portfolios_by_their_members(lake: Lake, make_bars: Maker) -> None:
    """A portfolio is touched through each of its symbols; one of sweeps is touched where a sweep of it is."""
    bars = make_bars(10, START)
    version = [write(lake, bars, symbol).version for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")][-1]
    record = f'{{"lake_version": {version}}}'
    sweeps = {"run_id": ["btc", "sol"], "symbol": ["BTCUSDT", "SOLUSDT"], "interval": "1m", "record": record}
    members = {"both": '["BTCUSDT", "ETHUSDT"]', "sound": '["SOLUSDT", "XRPUSDT"]', "swept": '["btc", "sol"]'}
    lake.append("sweeps/runs", pl.DataFrame(sweeps))
    portfolios = {"run_id": [*members], "kind": ["symbols", "symbols", "runs"], "members": [*members.values()]}
    lake.append("portfolio/runs", pl.DataFrame({**portfolios, "interval": "1m", "record": record}))
    assert impact(lake).is_empty()
    write(lake, corrected(bars, 3), "BTCUSDT")
    write(lake, corrected(bars, 4), "ETHUSDT")
    found = impact(lake).select("run_id", "symbol", "revised_bars").rows()
    assert found == [("both", "BTCUSDT", 1), ("both", "ETHUSDT", 1), ("btc", "BTCUSDT", 1), ("swept", "BTCUSDT", 1)]


class Crash(BaseException):
    """The process dies here; no handler of ours may catch it."""


STEPS = [(Location, "write_parquet"), (Table, "commit"), (Table, "write_file"), (Table, "stage")]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(9))
def test_a_crash_between_any_two_steps_loses_no_record(
    root: Path, make_bars: Maker, monkeypatch: pytest.MonkeyPatch, step: int, after: bool
) -> None:
    """Killed before or after any write to disk, the bar is either old without a record or new with exactly one."""
    bars = make_bars(10, START)
    write(Lake(root), bars)
    steps = {"left": step}

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            steps["left"] -= 1
            if steps["left"] == -1 and not after:
                raise Crash
            answer = real(*arguments, **options)
            if steps["left"] == -1:
                raise Crash
            return answer

        return call

    with monkeypatch.context() as patch:
        for owner, name in STEPS:
            patch.setattr(owner, name, dying(getattr(owner, name)))
        crashed = True
        try:
            write(Lake(root), corrected(bars, 3))
            crashed = False
        except Crash:
            pass
    lake = Lake(root)
    changed = lake.read_bars("BTCUSDT", "1m")["close"][3] == 7.0
    assert changed or crashed
    for _ in range(2):
        assert revisions(lake, "1m").height == (2 if changed else 0)
    write(lake, corrected(bars, 3))
    assert revisions(Lake(root), "1m")["column"].to_list() == ["close", "quote_volume"]
    assert lake.read_bars("BTCUSDT", "1m").schema == BARS


def test_the_crashes_reach_every_step(root: Path, make_bars: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above is not too short: a revising write takes fewer steps than it tries."""
    calls: list[str] = []

    def counted(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            calls.append(name)
            return real(*arguments, **options)

        return call

    for owner, name in STEPS:
        monkeypatch.setattr(owner, name, counted(name, getattr(owner, name)))
    lake, bars = Lake(root), make_bars(10, START)
    write(lake, bars)
    calls.clear()
    write(lake, corrected(bars, 3))
    bars_first = ["write_file", "write_parquet", "stage", "write_parquet", "commit"]
    assert calls == [*bars_first, "write_file", "write_parquet", "commit"]


def test_settling_twice_copies_once(lake: Lake, root: Path, make_bars: Maker) -> None:
    """Two processes that find the same correction uncopied record it once."""
    bars = make_bars(10, START)
    write(lake, bars)
    write(lake, corrected(bars, 3))
    assert settle(lake, "1m") == 0
    assert settle(Lake(root), "1m") == 0
    assert revisions(lake, "1m").height == 2

"""SQL sees the bars that are current, under the names the article uses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

import lake as lake_package
from lake.store import Lake
from tasks.errors import InputError

START = datetime(2024, 1, 1, tzinfo=UTC)
ARTICLE = """
SELECT symbol, date_trunc('hour', timestamp) AS hour, AVG(close) AS avg_close, SUM(volume) AS total_volume
FROM klines
GROUP BY symbol, hour
ORDER BY symbol, hour
"""


@pytest.fixture
def filled(lake: Lake, make_bars: Callable[..., pl.DataFrame]) -> Lake:
    """A lake with two symbols, the first of them revised, so that superseded files lie about."""
    for symbol, seed in (("BTCUSDT", 0), ("BTCUSDT", 1), ("ETHUSDT", 2)):
        bars = make_bars(180, seed=seed)
        lake.write_bars(bars, symbol=symbol, interval="1m", start=START, end=START + timedelta(days=1))
    return lake


def test_the_articles_query_runs_verbatim(filled: Lake, make_bars: Callable[..., pl.DataFrame]) -> None:
    """Hourly averages and volumes are those of the current bars, not of the files that lie there."""
    found = filled.sql(ARTICLE)
    bars = make_bars(180, seed=1).group_by_dynamic("timestamp", every="1h").agg(pl.mean("close"), pl.sum("volume"))
    assert found.height == 6
    mine = found.filter(pl.col("symbol") == "BTCUSDT")
    assert mine["hour"].equals(bars["timestamp"].alias("hour"))
    assert mine["avg_close"].to_list() == pytest.approx(bars["close"].to_list(), rel=1e-12)
    assert mine["total_volume"].to_list() == bars["volume"].to_list()


def test_every_table_is_a_view(filled: Lake) -> None:
    """Any table can be joined in SQL by its name with _ for /."""
    filled.append("quality/verdicts", pl.DataFrame({"symbol": ["BTCUSDT"], "status": ["pass"]}))
    filled.append("quality/verdicts", pl.DataFrame({"symbol": ["ETHUSDT"], "status": ["warn"], "rows": [3]}))
    found = filled.sql("SELECT status, count(*) AS n FROM klines_1m JOIN quality_verdicts USING (symbol) GROUP BY 1")
    assert sorted(found.rows()) == [("pass", 180), ("warn", 180)]


def test_klines_is_the_one_bar_table(lake: Lake, make_bars: Callable[..., pl.DataFrame]) -> None:
    """With daily bars alone, `klines` means those."""
    bars = make_bars(3, step=timedelta(days=1))
    lake.write_bars(bars, symbol="NVDA.US", interval="1d", start=START, end=START + timedelta(days=9))
    assert lake.sql("SELECT count(*) FROM klines").item() == 3


def test_a_bad_query_says_why_and_names_the_views(filled: Lake) -> None:
    """DuckDB's message comes with the names one could have meant."""
    with pytest.raises(InputError, match="expected a query"):
        filled.sql(" ")
    with pytest.raises(InputError, match="klines_1m"):
        filled.sql("SELECT * FROM klines_1min")


def _run(root: Path, *arguments: str, zone: str = "UTC") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lake", "--root", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"TZ": zone, "PATH": ""})


def test_the_command_line_prints_rows(filled: Lake, root: Path) -> None:
    """`python -m lake "SELECT …"` prints the result, cut in UTC days on a machine of any zone; `lake.sql` agrees."""
    query = "SELECT date_trunc('day', timestamp) AS day, count(*) AS bars FROM klines GROUP BY day"
    found = _run(root, query, "--csv", zone="America/New_York")
    assert found.stdout.splitlines() == ["day,bars", "2024-01-01T00:00:00.000000+0000,360"]
    assert lake_package.sql(query, root)["bars"].to_list() == [360]


def test_the_command_line_reports_mistakes(filled: Lake, root: Path) -> None:
    """A bad query ends with exit code 1 and the reason on stderr; no query lists the views."""
    found = _run(root, "SELEC 1")
    assert (found.returncode, found.stdout) == (1, "")
    assert "syntax error" in found.stderr
    assert _run(root).stdout.split() == ["klines_1m", "revisions_1m"]


def test_importing_the_lake_is_light() -> None:
    """`import lake` loads no table format, no query engine and no frames."""
    code = "import sys, lake; print({'deltalake', 'duckdb', 'pyarrow', 'polars'} & set(sys.modules) or 'light')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "light\n"

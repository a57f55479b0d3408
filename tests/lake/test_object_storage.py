"""The same lake on `s3://`, against a local server that keeps buckets in a folder and honours conditional puts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.coverage import Ledger
from lake.maintenance import health, maintain
from lake.revisions import revisions
from lake.store import Lake
from tests.lake.test_writers import check_two_writers, start_writer

START = datetime(2024, 1, 1, tzinfo=UTC)
Maker = Callable[..., pl.DataFrame]
ROUNDS = 5


@pytest.fixture
def options(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Access to a bucket on a server of this test's own."""
    (tmp_path / "buckets/market").mkdir(parents=True)
    command = [sys.executable, str(Path(__file__).with_name("bucket.py")), str(tmp_path / "buckets")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{int(server.stdout.readline())}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
        }
        server.kill()


def test_the_whole_lake_works_on_s3(options: dict[str, str], make_bars: Maker) -> None:
    """Upserts, corrections, versions, SQL, the ledger, tables and maintenance, all in a bucket."""
    lake = Lake("s3://market/lake", storage_options=options)
    assert lake.tables() == []
    bars = make_bars(300, START)
    for symbol in ("BTC/USDT:USDT", "AAPL.US"):
        lake.write_bars(bars, symbol=symbol, interval="1m", start=START, end=START + timedelta(days=1))
    before = lake.bars_version("1m")
    correction = bars.slice(5, 1).with_columns(close=7.0)
    lake.write_bars(correction, symbol="AAPL.US", interval="1m", start=START, end=START + timedelta(days=1))
    assert lake.read_bars("BTC/USDT:USDT", "1m").equals(bars)
    assert lake.read_bars("AAPL.US", "1m", version=before).equals(bars)
    assert revisions(lake, "1m").select("column", "new").rows() == [("close", 7.0)]

    lake.append("quality/verdicts", pl.DataFrame({"symbol": ["AAPL.US"], "status": ["pass"]}))
    found = lake.sql("SELECT symbol, count(*) AS bars FROM klines JOIN quality_verdicts USING (symbol) GROUP BY symbol")
    assert found.rows() == [("AAPL.US", 300)]
    assert lake.tables() == ["klines/1m", "quality/verdicts", "revisions/1m"]

    ledger = Ledger(lake)
    end = START + timedelta(minutes=310)
    ledger.record_answer("AAPL.US", "1m", START, end, asked_at=end)
    assert ledger.absences("AAPL.US", "1m", START, end, now=end)["reason"].to_list() == ["to_retry"]

    content = lake.content_hash("1m", "AAPL.US")
    maintain(lake, keep=timedelta(0))
    assert lake.content_hash("1m", "AAPL.US") == content
    assert health(lake).filter(table="klines/1m")["files"].item() == 2


def test_two_processes_on_one_partition_in_a_bucket(options: dict[str, str]) -> None:
    """Conditional puts keep two processes apart, which find the bucket by the usual AWS variables."""
    root = "s3://market/lake"
    writers = [start_writer(root, writer, ROUNDS, options) for writer in (0, 1)]
    for process in writers:
        process.communicate(timeout=200)
        assert process.returncode == 0
    check_two_writers(Lake(root, storage_options=options), ROUNDS)

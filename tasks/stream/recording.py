"""What the stream saw, as rows in the lake: trades, books, outages and alerts, in micro-batches.

A batch is one commit: it is there whole or not at all. What has not been committed when the process is killed is lost,
at most `FLUSH_S` of it; the next start stores that stretch as an outage, so that research never takes it for silence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import polars as pl

from lake.schema import TIMESTAMP
from lake.store import Lake
from tasks.stream.events import GapReason
from tasks.stream.messages import Channel, Depth, Trade
from tasks.stream.monitor import Alert
from tasks.stream.trades import REMEMBERED

#: How often batches are committed: what a kill may cost. A commit takes about 30 ms for each table.
FLUSH_S = 10.0
#: Rows kept while the lake cannot be written; then the oldest go, and become an outage.
MAX_ROWS = 500_000

TRADES = "live/trades"
DEPTH = "live/depth"
OUTAGES = "live/outages"
ALERTS = "live/alerts"

_LEVELS = pl.List(pl.Float64())
SCHEMAS: dict[str, dict[str, pl.DataType]] = {
    TRADES: {
        "symbol": pl.String(),
        "timestamp": TIMESTAMP,
        "received_at": TIMESTAMP,
        "id": pl.String(),
        "price": pl.Float64(),
        "quantity": pl.Float64(),
        "side": pl.String(),
        "day": pl.Date(),
    },
    DEPTH: {
        "symbol": pl.String(),
        "timestamp": TIMESTAMP,
        "received_at": TIMESTAMP,
        "bid_prices": _LEVELS,
        "bid_sizes": _LEVELS,
        "ask_prices": _LEVELS,
        "ask_sizes": _LEVELS,
        "day": pl.Date(),
    },
    OUTAGES: {
        "symbol": pl.String(),
        "channel": pl.String(),
        "start": TIMESTAMP,
        "end": TIMESTAMP,
        "reason": pl.String(),
    },
    ALERTS: {
        "symbol": pl.String(),
        "timestamp": TIMESTAMP,
        "received_at": TIMESTAMP,
        "episode": pl.String(),
        "pressure": pl.String(),
        "ratio": pl.Float64(),
        "threshold": pl.Float64(),
    },
}


def moment(milliseconds: float) -> datetime:
    """Return the UTC time of wall-clock milliseconds, to the microsecond."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)


class Recorder:
    """Rows on their way into the lake.

    Args:
        lake: Where they go.
        levels: Levels of the book recorded on each side.
        max_rows: Rows of one table kept while the lake cannot be written.

    Attributes:
        lost: Rows given up because the lake could not be written.
        written: Rows committed.
    """

    def __init__(self, lake: Lake, *, levels: int = 10, max_rows: int = MAX_ROWS) -> None:
        self.lost = 0
        self.written = 0
        self._lake = lake
        self._levels = levels
        self._max_rows = max_rows
        self._rows: dict[str, deque[tuple]] = {table: deque() for table in SCHEMAS}
        self._given_up_spans: dict[tuple[str, Channel], tuple[datetime, datetime]] = {}

    def trade(self, symbol: str, trade: Trade, received_ms: float) -> None:
        """Record one trade."""
        at = moment(trade.timestamp)
        row = (symbol, at, moment(received_ms), str(trade.id), trade.price, trade.quantity, trade.side, at.date())
        self._add(TRADES, row)

    def depth(self, symbol: str, depth: Depth, received_ms: float) -> None:
        """Record one snapshot of a book."""
        at = moment(depth.timestamp)
        bids, asks = depth.bids[: self._levels], depth.asks[: self._levels]
        sides = [[level[field] for level in side] for side in (bids, asks) for field in (0, 1)]
        self._add(DEPTH, (symbol, at, moment(received_ms), *sides, at.date()))

    def outage(self, symbol: str, channel: Channel, start_ms: float, end_ms: float, reason: GapReason) -> None:
        """Record that data of a subscription may be missing in ``[start, end)``."""
        self._add(OUTAGES, (symbol, channel, moment(start_ms), moment(end_ms), str(reason)))

    def alert(self, alert: Alert, received_ms: float) -> None:
        """Record that an episode of pressure has begun."""
        at = moment(alert.timestamp_ms)
        row = (alert.symbol, at, moment(received_ms), alert.episode, alert.pressure, alert.ratio, alert.threshold)
        self._add(ALERTS, row)

    @property
    def waiting(self) -> int:
        """Rows that a kill would lose now."""
        return sum(map(len, self._rows.values()))

    def flush(self) -> int:
        """Commit what waits, one commit a table, and return the rows written. Runs in a thread; rows may be added.

        A table that could not be written keeps its rows for the next time, and its error is raised.
        """
        given_up, self._given_up_spans = self._given_up_spans, {}
        for (symbol, channel), (start, end) in given_up.items():
            self._add(OUTAGES, (symbol, channel, start, end, str(GapReason.NOT_WRITTEN)))
        return sum(self._flush(table) for table in SCHEMAS)

    def _flush(self, table: str) -> int:
        rows = self._rows[table]
        batch = [rows.popleft() for _ in range(len(rows))]
        if not batch:
            return 0
        frame = pl.DataFrame(batch, schema=SCHEMAS[table], orient="row")
        partition = ("day",) if "day" in frame.columns else ()
        try:
            self._lake.append(table, frame, partition_by=partition)
        except BaseException:
            rows.extendleft(reversed(batch))
            raise
        self.written += len(batch)
        return len(batch)

    def _add(self, table: str, row: tuple) -> None:
        rows = self._rows[table]
        rows.append(row)
        while len(rows) > self._max_rows:  # a refused batch came back to those that arrived meanwhile
            self._give_up(table, rows.popleft())

    def _give_up(self, table: str, row: tuple) -> None:
        """Lose a row, and remember from when to when its symbol has lost some, by the time of reception."""
        self.lost += 1
        if table in (TRADES, DEPTH):
            channel: Channel = "trade" if table == TRADES else "depth"
            start, _ = self._given_up_spans.get((row[0], channel), (row[2], row[2]))
            self._given_up_spans[row[0], channel] = (start, row[2])


def last_recorded(lake: Lake, keys: Iterable[tuple[Channel, str]]) -> dict[tuple[Channel, str], datetime]:
    """Return when each subscription was last recorded, before this start; the stretch since then is an outage."""
    found: dict[tuple[Channel, str], datetime] = {}
    wanted = set(keys)
    tables: tuple[tuple[Channel, str], ...] = (("trade", TRADES), ("depth", DEPTH))
    for channel, table in tables:
        if not lake.exists(table):
            continue
        newest = lake.scan(table).group_by("symbol").agg(pl.col("received_at").max()).collect(engine="streaming")
        for symbol, at in newest.iter_rows():
            if (channel, symbol) in wanted:
                found[channel, symbol] = at
    return found


def recorded_trades(lake: Lake, symbols: Iterable[str], *, most: int = REMEMBERED) -> dict[str, list[str]]:
    """Return the ids of each symbol's newest recorded trades, oldest first; a refill must not record them twice.

    Hours are counted first, so that no more than the last of them is held in memory after months of recording.
    """
    if not lake.exists(TRADES):
        return {}
    rows = lake.scan(TRADES).filter(pl.col("symbol").is_in(list(symbols)))
    hours = rows.group_by("symbol", pl.col("timestamp").dt.truncate("1h").alias("since")).len()
    newer = pl.col("len").cum_sum().over("symbol") - pl.col("len")
    counted = hours.collect(engine="streaming").sort("since", descending=True).filter(newer < most)
    begins = counted.group_by("symbol").agg(pl.col("since").min())
    if begins.is_empty():
        return {}
    late = rows.filter(pl.col("timestamp") >= begins["since"].min()).join(begins.lazy(), on="symbol")
    held = late.filter(pl.col("timestamp") >= pl.col("since")).select("symbol", "timestamp", "id")
    newest = held.group_by("symbol").agg(pl.col("id").sort_by("timestamp").tail(most)).collect(engine="streaming")
    return dict(newest.iter_rows())

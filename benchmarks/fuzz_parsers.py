"""The parsers of bytes from outside: the samples that their fuzz inputs are made of, and what must hold of answers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import polars as pl

from benchmarks.fuzz_inputs import Maker, csv_inputs, json_inputs, parquet_inputs
from lake.schema import BARS
from lake.timeline import to_ms
from lake.transfer import read_bars_file
from tasks.broker.evidence import REFUSALS, judge, read_answer
from tasks.broker.private import read_report
from tasks.exchange import parse
from tasks.exchange.request import Window
from tasks.stream.messages import Message, decode

START = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WINDOW = Window(START, START + 10 * MINUTE)


@dataclass(frozen=True, slots=True)
class Parser:
    """One way in.

    Attributes:
        what: What arrives.
        make: Makes an input.
        opened: Context manager that yields the parser as a function of bytes; it asserts what must hold of an answer.
    """

    what: str
    make: Maker
    opened: Callable[[], Any]


@contextmanager
def _bars() -> Iterator[Callable[[bytes], None]]:
    def read(body: bytes) -> None:
        page = parse.parse_klines(
            body, symbol="BTCUSDT", interval_name="1m", window=WINDOW, limit=10, now=START + timedelta(days=1)
        )
        opens = page.bars["timestamp"]
        assert page.bars.schema == pl.Schema(BARS)
        assert opens.is_sorted()
        assert not opens.len() or (opens[0] >= WINDOW.start and opens[-1] < WINDOW.end and opens.is_unique().all())

    yield read


@contextmanager
def _answers() -> Iterator[Callable[[bytes], None]]:
    kinds = (
        *(parse.Products, parse.Depth, parse.Trades, list[parse.Ticker]),
        *(parse.Intervals, parse.TradeDays, parse.Sessions),
    )

    def read(body: bytes) -> None:
        value: Any = parse.parse_data(body, kinds[len(body) % len(kinds)], where="fuzz")
        if isinstance(value, parse.TradeDays):
            assert set(value.half_days()) <= set(value.days())
        if isinstance(value, parse.Sessions):
            for session in value.trading_sessions:
                session.begins(), session.ends()

    yield read


@contextmanager
def _frames() -> Iterator[Callable[[bytes], None]]:
    def read(frame: bytes) -> None:
        assert isinstance(decode(frame), get_args(Message))

    yield read


@contextmanager
def _replies() -> Iterator[Callable[[bytes], None]]:
    def read(body: bytes) -> None:
        answer = read_answer(200, body)
        for verb in REFUSALS:
            evidence = judge(verb, "ours", answer)
            assert evidence.order is None or evidence.order.client_order_id == "ours"
        read_report(body)

    yield read


def _files(suffix: str) -> Callable[[], Any]:
    @contextmanager
    def opened() -> Iterator[Callable[[bytes], None]]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"bars{suffix}"

            def read(body: bytes) -> None:
                path.write_bytes(body)
                bars = read_bars_file(path, time_zone="UTC")
                assert bars.schema == pl.Schema(BARS)
                assert bars["timestamp"].is_sorted()

            yield read

    return opened


def _envelope(data: Any, code: int = 0) -> dict[str, Any]:
    return {"code": code, "message": "success", "data": data}


def _klines() -> list[Any]:
    bar = {"open": "100.1", "high": "101", "low": "99.5", "close": "100", "volume": "5", "quote_volume": "500"}
    bars = [{"time": to_ms(START + minute * MINUTE)} | bar for minute in range(3)]
    blank = [*bars[:2], bars[2] | {"close": None}]
    data = {"symbol": "BTCUSDT", "type": "crypto", "interval": "1m"}
    return [_envelope(data | {"klines": rows}) for rows in (bars, blank, [])] + [_envelope(None, code=2002)]


def _other_answers() -> list[Any]:
    trade = {"id": "7", "price": "1.5", "quantity": "2", "side": "buy", "timestamp": 1}
    product = {"symbol": "A", "name": "a", "market": "crypto", "type": "spot", "currency": "USDT", "is_active": True}
    return [
        _envelope({"products": [product], "pagination": {"limit": 1, "offset": 0, "total": 1, "count": 1}}),
        _envelope({"symbol": "A", "timestamp": 1, "bids": [["1", "2"]], "asks": [["3", "4"]]}),
        _envelope({"symbol": "A", "trades": [trade]}),
        _envelope([{"symbol": "A", "timestamp": 1, "last_price": "5"}]),
        _envelope({"intervals": ["1m", "1h"]}),
        _envelope({"market": "US", "trade_days": ["20240102", "20240103"], "half_trade_days": ["20240704"]}),
        _envelope({"market": "US", "trading_sessions": [{"begin_time": 930, "end_time": 1600, "trade_session": 0}]}),
    ]


def _stream_frames() -> list[Any]:
    trade = {"id": "7", "price": "1.5", "quantity": "2", "side": "buy", "timestamp": 1}
    levels = [["100.5", "1"], ["100", "2"]]
    return [
        {"cmd": "depth", "data": {"symbol": "A", "bids": levels, "asks": levels, "timestamp": 7}},
        {"cmd": "trade", "data": {"symbol": "A", "trades": [trade]}},
        {"cmd": "trade", "data": {"symbol": "A"} | trade},
        {"cmd": "ticker", "data": {"symbol": "A", "last_price": "3.5", "timestamp": 1, "volume_24h": "9"}},
        {"cmd": "pong", "data": {"timestamp": 5}},
        {"cmd": "subscribe", "code": "2002", "message": "no", "data": {"channel": "depth", "symbols": ["A"]}},
        {"code": 3003},
    ]


def _broker_replies() -> list[Any]:
    same = {"client_order_id": "ours", "order_id": "b1", "symbol": "A", "side": "buy", "quantity": "2"}
    order = same | {"filled_quantity": "1", "status": "partially_filled", "updated_at": 1_704_067_200_000}
    order |= {"average_price": "100.5"}
    fill = same | {"trade_id": "t1", "price": "100.5", "fee": "0.1", "timestamp": 1_704_067_200_000}
    messages = [{"cmd": "order", "data": order}, {"cmd": "fill", "data": fill}, {"cmd": "pong"}]
    return [_envelope(order), _envelope(order | {"average_price": None}), _envelope(None, code=6003), *messages]


def _csv() -> list[str]:
    head = "timestamp,open,high,low,close,volume"
    times = (
        ("2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z"),
        ("2024-01-01 00:00:00", "2024-01-01 00:01:00"),
        ("1704067200", "1704067260"),
        ("2024-01-01", "2024-01-02"),
    )
    return ["\n".join([head, *(f"{time},1.5,2,1,1.7,{row}" for row, time in enumerate(pair))]) for pair in times]


def _frames_of_bars() -> list[pl.DataFrame]:
    opens = [START + minute * MINUTE for minute in range(20)]
    values = {name: [float(row) for row in range(20)] for name in BARS if name != "timestamp"}
    bars = pl.DataFrame({"timestamp": opens, **values})
    return [bars, bars.with_columns(pl.col("timestamp").dt.epoch("ms")), bars.cast(pl.String)]


PARSERS: dict[str, Parser] = {
    "bars": Parser("the vendor's pages of bars", json_inputs(_klines()), _bars),
    "answers": Parser("the vendor's other answers", json_inputs(_other_answers()), _answers),
    "frames": Parser("frames of the live stream", json_inputs(_stream_frames()), _frames),
    "replies": Parser("a broker's replies and reports", json_inputs(_broker_replies()), _replies),
    "csv": Parser("CSV files", csv_inputs(_csv()), _files(".csv")),
    "parquet": Parser("Parquet files", parquet_inputs(_frames_of_bars()), _files(".parquet")),
}

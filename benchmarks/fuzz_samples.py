"""Whole samples of everything that arrives from outside: what the fuzz inputs are made of by damaging it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from lake.schema import BARS
from lake.timeline import to_ms

START = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def _envelope(data: Any, code: int = 0) -> dict[str, Any]:
    return {"code": code, "message": "success", "data": data}


def klines() -> list[Any]:
    """Return pages of bars: whole, with a bar that is blank, empty, and a refusal."""
    bar = {"open": "100.1", "high": "101", "low": "99.5", "close": "100", "volume": "5", "quote_volume": "500"}
    bars = [{"time": to_ms(START + minute * MINUTE)} | bar for minute in range(3)]
    blank = [*bars[:2], bars[2] | {"close": None}]
    data = {"symbol": "BTCUSDT", "type": "crypto", "interval": "1m"}
    return [_envelope(data | {"klines": rows}) for rows in (bars, blank, [])] + [_envelope(None, code=2002)]


def other_answers() -> list[Any]:
    """Return one answer of every other kind."""
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


def stream_frames() -> list[Any]:
    """Return one frame of every kind."""
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


def broker_replies() -> list[Any]:
    """Return orders, refusals and reports as the local market spells them."""
    same = {"client_order_id": "ours", "order_id": "b1", "symbol": "A", "side": "buy", "quantity": "2"}
    order = same | {"filled_quantity": "1", "status": "partially_filled", "updated_at": 1_704_067_200_000}
    order |= {"average_price": "100.5"}
    fill = same | {"trade_id": "t1", "price": "100.5", "fee": "0.1", "timestamp": 1_704_067_200_000}
    messages = [{"cmd": "order", "data": order}, {"cmd": "fill", "data": fill}, {"cmd": "pong"}]
    return [_envelope(order), _envelope(order | {"average_price": None}), _envelope(None, code=6003), *messages]


def csv_files() -> list[str]:
    """Return files whose times are spelled in the ways there are."""
    head = "timestamp,open,high,low,close,volume"
    times = (
        ("2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z"),
        ("2024-01-01 00:00:00", "2024-01-01 00:01:00"),
        ("1704067200", "1704067260"),
        ("2024-01-01", "2024-01-02"),
    )
    return ["\n".join([head, *(f"{time},1.5,2,1,1.7,{row}" for row, time in enumerate(pair))]) for pair in times]


def frames_of_bars() -> list[pl.DataFrame]:
    """Return bars with times, with whole numbers for times, and all as text."""
    opens = [START + minute * MINUTE for minute in range(20)]
    values = {name: [float(row) for row in range(20)] for name in BARS if name != "timestamp"}
    bars = pl.DataFrame({"timestamp": opens, **values})
    return [bars, bars.with_columns(pl.col("timestamp").dt.epoch("ms")), bars.cast(pl.String)]


def refusals() -> list[Any]:
    """Return what a refused handshake says, and lists of connections."""
    return [{"code": 3003, "message": "no"}, {"code": "AMBIGUOUS_SYMBOL"}, {"data": [{"id": 7, "status": "stale"}]}]


def exchange_bars() -> list[Any]:
    """Return bars as Binance spells them."""
    opens = [to_ms(START + minute * MINUTE) for minute in range(3)]
    rows = [[at, "100", "101", "99.5", "100.5", "5", at + 59_999, "500", 3, "1", "100", "0"] for at in opens]
    return [rows, rows[:1], [], {"code": -1121, "msg": "Invalid symbol."}]


def exchange_orders() -> list[Any]:
    """Return orders and trades in ccxt's unified shape."""
    same = {"id": "b1", "symbol": "BTC/USDT", "side": "buy", "amount": 2.0, "timestamp": to_ms(START)}
    order = same | {"clientOrderId": "ours", "status": "open", "filled": 1.0, "average": 100.5}
    trade = same | {"order": "b1", "price": 100.5, "fee": {"cost": 0.1, "currency": "USDT"}}
    return [order, order | {"status": "canceled", "lastUpdateTimestamp": to_ms(START)}, trade, trade | {"fee": None}]


def limits_files() -> list[str]:
    """Return files of risk limits."""
    return ["max_order_fraction = 0.01\norders_per_minute = 5\n", "max_day_loss = 1e-2\nmax_losses_in_a_row = 3\n"]


def actions() -> list[Any]:
    """Return what the control page's buttons say."""
    return [{"account": "paper"}, {"name": "drawdown", "why": "looked at"}, {}]

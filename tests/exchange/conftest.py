"""Shared by the exchange tests: a small market, and vendor pages as bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from lake.timeline import to_ms
from tasks.exchange.request import Window
from tasks.simulator.market import Market, generated

START = datetime(2024, 1, 1, tzinfo=UTC)
END = datetime(2024, 1, 4, tzinfo=UTC)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def window(bars: int = 10, start: datetime = START) -> Window:
    """Return a window of that many one-minute bars."""
    return Window(start, start + bars * MINUTE)


def kline(minute: int, price: float = 100.0, **changes: object) -> dict[str, object]:
    """Return one vendor bar that opens that many minutes after `START`."""
    text = str(price)
    bar: dict[str, object] = {"time": to_ms(START + minute * MINUTE), "open": text, "high": text, "low": text}
    return bar | {"close": text, "volume": "5", "quote_volume": "500"} | changes


def body(klines: Iterable[dict[str, object]], *, symbol: str = "BTCUSDT", interval: str = "1m", code: int = 0) -> bytes:
    """Return a vendor answer with these bars."""
    data = {"symbol": symbol, "type": "crypto", "interval": interval, "klines": list(klines)}
    return json.dumps({"code": code, "message": "success", "data": data}).encode()


@pytest.fixture(scope="session")
def market() -> Market:
    """Three days of one-minute bars of two symbols, the market's clock at their end."""
    return generated(seed=7, symbols=("BTCUSDT", "ETHUSDT"), interval="1m", start=START, end=END)

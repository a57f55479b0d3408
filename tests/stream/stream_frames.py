"""Frames as the vendor sends them, and sessions to feed them to."""

from __future__ import annotations

import json
from random import Random

from tasks.stream.policy import SessionPolicy
from tasks.stream.session import Session

DESIRED = [("depth", "BTCUSDT"), ("trade", "BTCUSDT")]


def depth(
    symbol: str = "BTCUSDT", *, bid: float = 100.0, ask: float = 100.5, ms: int = 1_000, sizes=(1.0, 1.0)
) -> bytes:
    """Return a ten-level depth frame, strings and best first."""
    bids = [[f"{bid - level * 0.5:.2f}", f"{sizes[0] + level:.4f}"] for level in range(10)]
    asks = [[f"{ask + level * 0.5:.2f}", f"{sizes[1] + level:.4f}"] for level in range(10)]
    data = {"symbol": symbol, "bids": bids, "asks": asks, "timestamp": ms}
    return json.dumps({"cmd": "depth", "data": data}).encode()


def trade(symbol: str = "BTCUSDT", identity: str = "1", *, ms: int = 1_000) -> bytes:
    """Return a frame with one trade in a list."""
    one = {"id": identity, "price": "100.25", "quantity": "0.5", "side": "buy", "timestamp": ms}
    return json.dumps({"cmd": "trade", "data": {"symbol": symbol, "trades": [one]}}).encode()


def answer(code: int | str = 0, cmd: str = "subscribe", channel: str | None = None, symbols=()) -> bytes:
    """Return the server's verdict on a command."""
    data = {"channel": channel, "symbols": list(symbols)} if channel else None
    return json.dumps({"cmd": cmd, "code": code, "message": "said the server", "data": data}).encode()


def pong(ms: int = 1_000) -> bytes:
    """Return the answer to a ping."""
    return json.dumps({"cmd": "pong", "data": {"timestamp": ms}}).encode()


def make(desired=DESIRED, *, seed: int = 1, refilled: bool = True, **policy) -> Session:
    """Return an idle session."""
    return Session(desired, policy=SessionPolicy(**policy), rng=Random(seed), epoch_ms=0.0, refilled=refilled)

"""The demonstration of the live side: what differs from a run at the market's own pace."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from flows.demo_live import SPEED, write_limits
from flows.live_limits import read_limits
from tasks.orders.account import Limits


def test_a_minute_of_the_market_has_a_minutes_orders(tmp_path: Path) -> None:
    """Limits that count by the minute count the market's minute, which is a twentieth of ours; no other differs."""
    found, usual = asdict(read_limits(write_limits(tmp_path, SPEED))), asdict(Limits())
    changed = {name: float(value / usual[name]) for name, value in found.items() if value != usual[name]}
    rates = ("orders_per_minute", "symbol_orders_per_minute", "strategy_orders_per_minute")
    assert changed == dict.fromkeys(rates, SPEED) | {"collar_period_s": 1 / SPEED}

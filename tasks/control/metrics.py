"""The state as Prometheus metrics: a table of what to read from where, so that page and metrics cannot disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

State = Mapping[str, Any]

#: Name, kind, what it says, and where in the state it stands.
FIGURES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("stream_messages", "counter", "Messages of desired subscriptions.", ("stream", "throughput", "messages")),
    ("stream_conflated", "counter", "Snapshots replaced before use.", ("stream", "throughput", "conflated")),
    ("stream_trades_dropped", "counter", "Trades lost to overflow.", ("stream", "throughput", "trades_dropped")),
    ("stream_trades_waiting", "gauge", "Trades queued.", ("stream", "throughput", "trades_waiting")),
    ("stream_loop_lag_ms", "gauge", "How late the loop wakes, decaying.", ("stream", "throughput", "loop_lag_ms")),
    ("stream_latency_p50_ms", "gauge", "Venue to us, median.", ("stream", "throughput", "latency_p50_ms")),
    ("stream_latency_p99_ms", "gauge", "Venue to us, 99 %.", ("stream", "throughput", "latency_p99_ms")),
    ("stream_connects", "counter", "Attempts to connect.", ("stream", "connection", "connects")),
    ("stream_failures", "gauge", "Failures in a row.", ("stream", "connection", "failures")),
    ("stream_undecodable", "counter", "Frames that could not be read.", ("stream", "connection", "undecodable")),
    ("stream_clock_offset_ms", "gauge", "Venue's clock minus ours.", ("stream", "connection", "clock_offset_ms")),
    ("recording_rows_written", "counter", "Rows committed to the lake.", ("stream", "recording", "written")),
    ("recording_rows_waiting", "gauge", "Rows a kill would lose now.", ("stream", "recording", "waiting")),
    ("recording_rows_lost", "counter", "Rows given up.", ("stream", "recording", "lost")),
    ("rate_budget_used", "gauge", "Requests in the last minute.", ("rate_budget", "used")),
    ("rate_budget_limit", "gauge", "Requests a minute the plan allows.", ("rate_budget", "limit")),
    ("trading_equity", "gauge", "What the account is worth, quote asset.", ("trading", "equity")),
    ("trading_profit", "gauge", "Profit after fees, quote asset.", ("trading", "profit", "net")),
    ("trading_realised", "gauge", "Realised profit before fees.", ("trading", "profit", "realised")),
    ("trading_unrealised", "gauge", "Unrealised profit.", ("trading", "profit", "unrealised")),
    ("trading_fees", "counter", "Fees paid, quote asset.", ("trading", "profit", "fees")),
    ("trading_orders", "counter", "Orders since the start.", ("trading", "counts", "orders")),
    ("trading_fills", "counter", "Fills since the start.", ("trading", "counts", "fills")),
    ("trading_working", "gauge", "Orders that are open.", ("trading", "counts", "working")),
    ("trading_in_doubt", "gauge", "Orders whose outcome is unknown.", ("trading", "counts", "in_doubt")),
    ("trading_live", "gauge", "1 while real money moves.", ("trading", "live")),
)

#: Of every symbol: name, what it says, key.
SYMBOL_FIGURES: tuple[tuple[str, str, str], ...] = (
    ("symbol_valid", "1 while the book can be trusted.", "valid"),
    ("symbol_pressure_ratio", "Bid size over ask size at the best level.", "pressure_ratio"),
    ("symbol_imbalance", "Imbalance at the best level.", "imbalance"),
    ("symbol_spread", "Best ask minus best bid.", "spread"),
    ("symbol_last_price", "Last price.", "last_price"),
    ("symbol_trade_flow", "Signed share of the last minute's trades.", "trade_flow"),
    ("symbol_age_s", "Seconds since the last snapshot.", "age_s"),
    ("symbol_latency_ms", "Venue to us.", "latency_ms"),
)
#: Of every position, strategy and limit: name, what it says, label, where the list stands, key.
LISTED_FIGURES: tuple[tuple[str, str, str, tuple[str, ...], str], ...] = (
    ("position_quantity", "What is held, base asset.", "symbol", ("trading", "positions"), "quantity"),
    ("position_value", "What it is worth, quote asset.", "symbol", ("trading", "positions"), "value"),
    ("strategy_signals", "Orders a strategy asked for.", "symbol", ("trading", "strategies"), "signals"),
    ("strategy_silent_s", "Seconds a strategy is overdue.", "symbol", ("trading", "strategies"), "silent_s"),
    ("limit_used", "How much of a limit is used.", "name", ("trading", "limits", "used"), "used"),
    ("limit", "The limit.", "name", ("trading", "limits", "used"), "limit"),
)
#: States that are metrics of their own, 1 for the one it is in: name, what it says, where it stands.
STATES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("stream_state", "1 for the state it is in.", ("stream", "connection", "state")),
    ("trading_state", "1 for the state the account is in.", ("trading", "state")),
)
_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


class _StateCollector(Collector):
    def __init__(self, snapshot: Callable[[], State]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        """Promise nothing at registration: the state may not be there yet."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Yield every figure that the state has a value for."""
        state = self._snapshot()
        for name, kind, meaning, path in FIGURES:
            value = _at(state, path)
            if value is not None:
                yield _FAMILIES[kind](f"klinehouse_{name}", meaning, value=float(value))
        for name, meaning, path in STATES:
            found = _at(state, path)
            if found is not None:
                family = GaugeMetricFamily(f"klinehouse_{name}", meaning, labels=["state"])
                family.add_metric([str(found)], 1.0)
                yield family
        for name, meaning, key in SYMBOL_FIGURES:
            yield _listed(name, meaning, "symbol", _at(state, ("stream", "symbols")), key)
        for name, meaning, label, path, key in LISTED_FIGURES:
            yield _listed(name, meaning, label, _at(state, path), key)


class Metrics:
    """Prometheus' text of the state at the moment it is asked for.

    Args:
        snapshot: Returns the state as plain values.
    """

    def __init__(self, snapshot: Callable[[], State]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_StateCollector(snapshot))

    def text(self) -> bytes:
        """Return the exposition in Prometheus' text format."""
        return generate_latest(self._registry)


def _listed(name: str, meaning: str, label: str, entries: Iterable[State] | None, key: str) -> Metric:
    family = GaugeMetricFamily(f"klinehouse_{name}", meaning, labels=[label])
    for one in entries or ():
        if one.get(key) is not None:
            family.add_metric([str(one[label])], float(one[key]))
    return family


def _at(state: Any, path: Iterable[str]) -> Any:
    """Return what stands at `path`, None where anything on the way is missing."""
    for key in path:
        state = state.get(key) if isinstance(state, Mapping) else None
    return state

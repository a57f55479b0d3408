"""Opens the source of bars that the settings and a flow's `source` choose, and says how its symbols trade."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from flows.settings import Settings
from tasks.exchange.source import SourceSettings

#: Exchange whose calendar a symbol keeps, by its suffix; every other symbol trades around the clock.
_EXCHANGES = {".US": "XNYS", ".HK": "XHKG", ".SH": "XSHG", ".SZ": "XSHG"}
_ALWAYS_OPEN = "always_open"

#: Where the simulated market's history begins: long enough for every default of the flows.
_SIMULATED_SINCE = datetime(2024, 1, 1, tzinfo=UTC)


def calendar_of(symbol: str) -> str:
    """Return the calendar the symbol keeps, as `lake.calendar.TradingCalendar.parse` reads it."""
    return next((f"exchange:{code}" for suffix, code in _EXCHANGES.items() if symbol.endswith(suffix)), _ALWAYS_OPEN)


def market_of(symbol: str) -> str:
    """Return the kind of market whose quality limits the symbol keeps."""
    return "crypto" if calendar_of(symbol) == _ALWAYS_OPEN else "equity"


@contextmanager
def open_vendor(settings: Settings, source: str, symbols: Sequence[str]) -> Iterator[SourceSettings]:
    """Yield the source of bars for a run; the simulated market lives in this process for the length of the block.

    Raises:
        ConfigurationError: TickDB is wanted and no key is set.
    """
    budget_dir = str(settings.state_dir / "budget")
    if settings.market == "simulator" and source == "tickdb":
        with _simulator(settings, symbols) as (url, key):
            yield SourceSettings(
                base_url=url, api_key=SecretStr(key), requests_per_minute=settings.rate, budget_dir=None
            )
        return
    key = settings.vendor_key() if source == "tickdb" else SecretStr("")
    yield SourceSettings(
        source=source,
        base_url=settings.vendor_url,
        api_key=key,
        requests_per_minute=settings.rate,
        budget_dir=budget_dir,
        now=settings.market_now,
    )


@contextmanager
def _simulator(settings: Settings, symbols: Sequence[str]) -> Iterator[tuple[str, str]]:
    from tasks.simulator.instruments import is_listed  # the simulator loads only where it is wanted
    from tasks.simulator.market import generated
    from tasks.simulator.server import Simulator

    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    market = generated(symbols=tuple(filter(is_listed, symbols)), start=_SIMULATED_SINCE, end=now + timedelta(days=1))
    with Simulator(market, plan=settings.plan, now=datetime.now(UTC)) as simulator:
        yield simulator.url, simulator.api_key

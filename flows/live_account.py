"""The account a live run trades: broker and journal opened together, and closed together whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from time import monotonic

import structlog

from flows.live_plan import TradingPlan, keys, passphrase, spelling
from flows.settings import Settings
from tasks.broker.matching import Terms
from tasks.broker.metered import Gate, order_limits
from tasks.broker.paper import PaperBroker
from tasks.broker.port import Broker
from tasks.errors import ConfigurationError
from tasks.journal.journal import Journal
from tasks.journal.place import journal_path

log = structlog.get_logger("flows.live")

#: What paper trades in: fine enough for a small account, coarse enough to be read.
_PAPER_STEP, _PAPER_LEAST = Decimal("0.0001"), Decimal(1)


@dataclass(frozen=True, slots=True)
class Steps:
    """What a broker takes of a symbol: steps of quantity and price, the least value and the most of an order."""

    quantity: Decimal = _PAPER_STEP
    price: Decimal = Decimal("0.00000001")
    least: Decimal = _PAPER_LEAST
    most: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """An account that is open.

    Attributes:
        name: In ids and tables.
        broker: Who trades it.
        journal: What happened to it.
        plan: What it is opened for.
        spelling: The vendor's symbols in the broker's spelling.
        steps: By symbol in the broker's spelling.
    """

    name: str
    broker: Broker
    journal: Journal
    plan: TradingPlan
    spelling: dict[str, str]
    steps: dict[str, Steps] = field(default_factory=dict)

    @property
    def paper(self) -> PaperBroker | None:
        """Return the paper broker, which wants to see the market; None where the broker has one of its own."""
        return self.broker if isinstance(self.broker, PaperBroker) else None


@asynccontextmanager
async def open_account(settings: Settings, plan: TradingPlan, symbols: list[str]) -> AsyncIterator[Account]:
    """Yield the account of a plan that was checked, its journal recovered.

    Raises:
        ConfigurationError: Another process holds it, the exchange is not one to trade at, or something is held there
            that is not among the symbols.
        DataError: The journal is not what was written.
    """
    names = spelling(plan, symbols)
    journal = Journal(journal_path(settings.state_dir, plan.account(settings)))
    broker, steps = await _open_broker(settings, plan, list(names.values()))
    if broker.is_live:
        log.warning("trading.live", account=plan.account(settings), broker=broker.name, money="real")
    try:
        await asyncio.to_thread(journal.__enter__)  # a long journal takes seconds to check
        try:
            if plan.exchange:
                _check_held(journal, plan.account(settings), set(names.values()))
            yield Account(plan.account(settings), broker, journal, plan, names, steps)
        finally:
            await asyncio.to_thread(journal.close)
    finally:
        await broker.close()


def _check_held(journal: Journal, account: str, symbols: set[str]) -> None:
    """Refuse to leave out what is held or works: an exchange is asked for the symbols of the run alone."""
    held = {symbol for (owner, symbol), quantity in journal.state.positions.items() if owner == account and quantity}
    working = {order.request.symbol for order in journal.state.orders.values() if not order.is_terminal}
    missing = sorted((held | working) - symbols)
    if missing:
        raise ConfigurationError(
            f"symbols: expected those with a position or an open order, {' '.join(missing)} among them, found only "
            f"{' '.join(sorted(symbols))}; trade them too, or close them first"
        )


async def _open_broker(settings: Settings, plan: TradingPlan, symbols: list[str]) -> tuple[Broker, dict[str, Steps]]:
    if not plan.exchange:
        path = settings.state_dir / "paper.db"
        return PaperBroker(path, clock=_now, terms=Terms()), {symbol: Steps() for symbol in symbols}
    from tasks.broker.ccxt import CcxtBroker, CcxtSettings, open_exchange  # ccxt loads only where it is wanted

    key, secret = keys(plan, settings)
    chosen = CcxtSettings(
        plan.exchange,
        key,
        secret,
        tuple(symbols),
        sandbox=not plan.is_live,
        allow_non_idempotent=plan.allow_non_idempotent,
        passphrase=passphrase(plan, settings),
    )
    exchange = open_exchange(chosen)
    try:
        markets = await exchange.load_markets()
        a_minute = order_limits(max(10, round(60_000 / exchange.rateLimit)), 60.0)
        steps = {one: _steps(markets, one) for one in symbols}
    except Exception as error:  # noqa: BLE001  (whatever failed, the connection is closed and the words are ours)
        await exchange.close()
        # ccxt's errors hold addresses and signatures: only the class leaves this block.
        found = str(error) if isinstance(error, ConfigurationError) else type(error).__name__
        raise ConfigurationError(f"{plan.broker}: expected its markets with {symbols}, found {found}") from None
    gate = Gate(plan.exchange, a_minute, clock=monotonic)
    broker = CcxtBroker(chosen, clock=_now, exchange=exchange, gate=gate)
    try:
        if not await broker.check_key() and broker.is_live:
            log.warning("key.not_checked", exchange=plan.exchange, why="it does not tell whether a key may withdraw")
    except BaseException:
        await broker.close()
        raise
    return broker, steps


def _steps(markets: dict, symbol: str) -> Steps:
    """Return what the exchange says of a symbol; where it says nothing, the smallest step."""
    if symbol not in markets:
        raise ConfigurationError(f"no symbol {symbol}")
    precision, bounds = markets[symbol]["precision"], markets[symbol]["limits"]
    least, most = (bounds.get("cost") or {}).get("min"), (bounds.get("amount") or {}).get("max")
    steps = _step(precision.get("amount")), _step(precision.get("price"))
    return Steps(*steps, Decimal(str(least or 0)), Decimal(str(most)) if most else None)


def _step(value: float | None) -> Decimal:
    return Decimal(str(value)) if value else Decimal("0.00000001")


def _now() -> datetime:
    return datetime.now(UTC)

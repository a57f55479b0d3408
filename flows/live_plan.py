"""What a live run shall trade, and the two keys that real money needs: refused before anything is opened or connected.

Paper is the default. An exchange means its sandbox, with keys of its own. Real money moves only where the run says
``mode="live"`` *and* repeats the account's name, and the machine holds that name and a key that may trade.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Literal, Self

from pydantic import SecretStr

from flows.live_limits import read_limits
from flows.settings import Settings
from tasks.errors import ConfigurationError
from tasks.journal.place import PAPER
from tasks.strategies.book_gate import BookGate

Mode = Literal["paper", "live"]
#: A reversal through zero takes all cash, which no limit here allows.
Direction = Literal["long", "short"]

#: What an exchange's symbols may be quoted in, longest first, to spell BTCUSDT as BTC/USDT.
_QUOTES = ("USDT", "USDC", "BUSD", "TUSD", "USD", "EUR", "BTC", "ETH")


@dataclass(frozen=True, slots=True)
class TradingPlan:
    """What is traded, where, and how sure somebody was of it.

    Attributes:
        strategy: Its name; empty only watches and keeps the desk ready.
        strategy_params: The strategy's parameters where they are not its defaults.
        position_fraction: Share of equity that a position shall have.
        direction: Which side of the market the strategy may be on.
        broker: ``paper``, or ``ccxt:`` and an exchange.
        mode: ``live`` moves real money; ``paper`` does not, wherever it trades.
        i_accept_live: The live account's name, repeated.
        allow_non_idempotent: An exchange's name, repeated, where an order in doubt can never be sent again.
        book_gate: What the order book must say before a position is opened.
    """

    strategy: str = ""
    strategy_params: Mapping[str, float] = field(default_factory=dict)
    position_fraction: float = 0.005
    direction: Direction = "long"
    broker: str = "paper"
    mode: Mode = "paper"
    i_accept_live: str = ""
    allow_non_idempotent: str = ""
    book_gate: BookGate = field(default_factory=BookGate)

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the plan in a flow's parameters, which hold other things too."""
        return cls(**{one.name: parameters[one.name] for one in fields(cls) if one.name in parameters})

    @property
    def exchange(self) -> str:
        """Return ccxt's name of the exchange, empty for paper."""
        return self.broker.removeprefix("ccxt:") if self.broker.startswith("ccxt:") else ""

    @property
    def is_live(self) -> bool:
        """Return whether real money moves."""
        return self.mode == "live"

    def account(self, settings: Settings) -> str:
        """Return the account's name in ids and tables; no two brokers share one."""
        if not self.exchange:
            return PAPER
        return settings.live_account if self.is_live else f"{self.exchange}-sandbox"


def check_plan(plan: TradingPlan, settings: Settings) -> None:
    """Refuse a plan that is not safe to begin.

    Raises:
        ConfigurationError: The broker is none of ours, a key is missing or in the wrong place, or live trading was not
            accepted; the message says what to do.
    """
    if plan.broker != "paper" and not plan.exchange:
        raise ConfigurationError(
            f"broker: expected paper or ccxt:<exchange>, such as ccxt:binance, found {plan.broker!r}"
        )
    if plan.exchange and settings.market == "simulator":
        raise ConfigurationError(
            f"broker {plan.broker}: expected the real market's prices, found KLINEHOUSE_MARKET=simulator; an exchange "
            "is never traded on invented prices"
        )
    limits = read_limits(settings.limits_file)
    if Decimal(str(plan.position_fraction)) > limits.max_order_fraction:
        raise ConfigurationError(
            f"position_fraction: expected at most max_order_fraction of the limits, {limits.max_order_fraction}, found "
            f"{plan.position_fraction}: every entry would be denied; ask for less, or allow more in a file that "
            "KLINEHOUSE_LIMITS_FILE names"
        )
    if plan.is_live:
        _check_live(plan, settings)
    elif plan.exchange:
        _keys_of("sandbox", settings.sandbox_key, settings.sandbox_secret)
        if settings.trade_key is not None and _same(settings.sandbox_key, settings.trade_key):
            raise ConfigurationError("keys: expected a sandbox key of its own, found the one that trades real money")


def keys(plan: TradingPlan, settings: Settings) -> tuple[SecretStr, SecretStr]:
    """Return the exchange's key and secret that a plan is entitled to: a paper run never sees the live ones."""
    if plan.is_live:
        return _keys_of("trade", settings.trade_key, settings.trade_secret)
    return _keys_of("sandbox", settings.sandbox_key, settings.sandbox_secret)


def passphrase(plan: TradingPlan, settings: Settings) -> SecretStr | None:
    """Return the third secret that some exchanges' keys have, None where there is none."""
    return settings.trade_passphrase if plan.is_live else settings.sandbox_passphrase


def spelling(plan: TradingPlan, symbols: list[str]) -> dict[str, str]:
    """Return each symbol in the broker's spelling.

    Raises:
        ConfigurationError: A symbol cannot be spelled for an exchange, or they are not quoted in one asset.
    """
    found = {symbol: _spelled(symbol) if plan.exchange else symbol for symbol in symbols}
    quotes = sorted({name.partition("/")[2] for name in found.values()})
    if plan.exchange and len(quotes) > 1:
        raise ConfigurationError(
            f"symbols: expected all of them quoted in one asset, which the account's worth and limits are counted in, "
            f"found {' '.join(quotes)}; trade those of one alone"
        )
    return found


def _check_live(plan: TradingPlan, settings: Settings) -> None:
    if not plan.exchange:
        raise ConfigurationError("live trading: expected broker ccxt:<exchange>, found paper")
    if not settings.live_account:
        raise ConfigurationError(
            "live trading: expected KLINEHOUSE_LIVE_ACCOUNT, the name of the account with real money, found none"
        )
    if not re.fullmatch(r"[A-Za-z0-9_-]+", settings.live_account) or _is_taken(settings.live_account):
        raise ConfigurationError(
            f"live trading: expected KLINEHOUSE_LIVE_ACCOUNT to be a name of its own out of letters, digits, - and _, "
            f"found {settings.live_account!r}; paper and <exchange>-sandbox have journals already"
        )
    if plan.i_accept_live != settings.live_account:
        raise ConfigurationError(
            f"live trading: expected i_accept_live to repeat the account's name from KLINEHOUSE_LIVE_ACCOUNT, found "
            f"{plan.i_accept_live!r}; nothing was connected"
        )
    key, _ = _keys_of("trade", settings.trade_key, settings.trade_secret)
    if settings.sandbox_key is not None and _same(settings.sandbox_key, key):
        raise ConfigurationError("keys: expected a live key of its own, found the sandbox's; paper keys never go live")


def _is_taken(name: str) -> bool:
    return name == PAPER or name.endswith("-sandbox")


def _keys_of(kind: str, key: SecretStr | None, secret: SecretStr | None) -> tuple[SecretStr, SecretStr]:
    name = f"KLINEHOUSE_{kind.upper()}_"
    if key is None or secret is None or not (key.get_secret_value() and secret.get_secret_value()):
        raise ConfigurationError(f"exchange key: expected {name}KEY and {name}SECRET in the environment, found none")
    return key, secret


def _same(one: SecretStr | None, other: SecretStr) -> bool:
    return one is not None and one.get_secret_value() == other.get_secret_value()


def _spelled(symbol: str) -> str:
    for quote in _QUOTES:
        base = symbol.removesuffix(quote)
        if base and base != symbol:
            return f"{base}/{quote}"
    raise ConfigurationError(f"symbol: expected one quoted in {' '.join(_QUOTES)} to trade it there, found {symbol!r}")

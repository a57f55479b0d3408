"""What exchanges guarantee, what their errors prove, and which account is meant. Pure; ccxt's classes by name alone.

A profile is only as good as somebody's check of the exchange's own documents, so that an exchange which is not in the
table is class C: looked up, never sent twice. An error refuses an order only where its class (not one of its bases) or
the exchange's own code stands in the allowlist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import SecretStr

from tasks.orders.guarantees import IdempotencyClass, IdempotencyProfile

_DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True)
class CcxtSettings:
    """Which account of which exchange.

    Attributes:
        exchange: ccxt's name of it.
        key: Never printed.
        secret: Never printed.
        symbols: What is traded, in ccxt's spelling (``BTC/USDT``); all quoted in one asset.
        sandbox: The exchange's test environment; False is live.
        allow_non_idempotent: The exchange's name once more, to trade live where an order in doubt is never sent again.
        timeout_s: How long an answer is waited for.
        poll_s: How often orders and fills are asked for.
        passphrase: Never printed; a third secret of some exchanges' keys, None elsewhere.
    """

    exchange: str
    key: SecretStr
    secret: SecretStr
    symbols: tuple[str, ...]
    sandbox: bool = True
    allow_non_idempotent: str = ""
    timeout_s: float = 10.0
    poll_s: float = 1.0
    passphrase: SecretStr | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may show."""
        found = (self.key, self.secret, self.passphrase)
        return tuple(one.get_secret_value() for one in found if one is not None)


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange as checked against its documents.

    Attributes:
        profile: What it guarantees.
        lookup: The parameter under which an order is found by our id; empty where lists have to be searched.
        has_deadline: Whether `timestamp` and `recvWindow` travel with the order, and bind.
        refusals: Its own codes that refuse an order for sure, besides ccxt's classes.
        has_dead_man: It cancels everything where it is not called in time, counted from the last call (ccxt's
            ``cancelAllOrdersAfter``; where that hangs on a WebSocket, as at Bybit, it would not help us).
    """

    profile: IdempotencyProfile
    lookup: str = ""
    has_deadline: bool = False
    refusals: frozenset[int] = frozenset()
    has_dead_man: bool = False


#: Unknown symbol, malformed field, filter ("did not reach the matching engine"), rejected by the engine, key.
_BINANCE_CODES = frozenset({-1013, -1100, -1102, -1104, -1106, -1111, -1112, -1121, -2010, -2014})
#: Unique among open orders; recvWindow is checked again right before the engine; queries may come from a lagging copy.
_BINANCE = Exchange(
    IdempotencyProfile(IdempotencyClass.B, _DEADLINE_S, lag_s=2.0, retention_s=90 * 86_400.0),
    lookup="origClientOrderId",
    has_deadline=True,
    refusals=_BINANCE_CODES,
)
#: Forgets orders that ended without a fill after three days.
_BINANCE_FUTURES = Exchange(
    IdempotencyProfile(IdempotencyClass.B, _DEADLINE_S, lag_s=2.0, retention_s=3 * 86_400.0),
    lookup="origClientOrderId",
    has_deadline=True,
    refusals=_BINANCE_CODES,
)

#: Not checked: looked up, never sent twice. Kraken's free ids end at 18 characters.
_UNKNOWN = Exchange(IdempotencyProfile(IdempotencyClass.C, None, lag_s=5.0, max_id_length=18))
_SWITCHED = replace(_UNKNOWN, has_dead_man=True)

KNOWN: dict[str, Exchange] = {
    "binance": _BINANCE,
    "binanceus": _BINANCE,
    "binanceusdm": _BINANCE_FUTURES,
    "binancecoinm": _BINANCE_FUTURES,
    # ids live for eight hours
    "htx": Exchange(
        IdempotencyProfile(IdempotencyClass.C, None, lag_s=5.0, retention_s=8 * 3_600.0), has_dead_man=True
    ),
    **dict.fromkeys(("kraken", "krakenfutures", "okx", "okxus", "myokx", "woo"), _SWITCHED),
    # ids are neither checked nor unique, and cancelled orders without a fill are not kept
    "coinbaseexchange": Exchange(IdempotencyProfile(IdempotencyClass.D, None, lag_s=5.0)),
}

#: ccxt's classes that refuse for sure. Their bases and subclasses do not: ExchangeError is also a cut body.
REFUSING = frozenset(
    {
        "InsufficientFunds",
        "InvalidOrder",
        "BadSymbol",
        "OrderNotFillable",
        "OrderImmediatelyFillable",
        "AuthenticationError",
        "PermissionDenied",
        "AccountNotEnabled",
        "AccountSuspended",
        "MarketClosed",
    }
)

#: The same for cancels: the order is not known, or not open any more.
REFUSING_CANCEL = frozenset({"OrderNotFound", "OrderNotCached"})

_CODE = re.compile(r'"code"\s*:\s*"?(-?\d+)')
_WORDS = re.compile(r'"(?:msg|message)"\s*:\s*"([^"]{1,120})"')


def known(name: str) -> Exchange:
    """Return what is known of an exchange; the careful default where nothing is."""
    return KNOWN.get(name, _UNKNOWN)


@dataclass(frozen=True, slots=True)
class Objection:
    """An error of ccxt as far as it may be shown: no address, no header, no signature.

    Attributes:
        kind: Name of ccxt's class.
        code: The exchange's own code, None where the text holds none.
        words: The exchange's own words.
    """

    kind: str
    code: int | None
    words: str

    def __str__(self) -> str:
        code = "" if self.code is None else f" {self.code}"
        return f"{self.kind}{code}{': ' if self.words else ''}{self.words}"

    @property
    def is_duplicate(self) -> bool:
        """Whether the id is in use: the order is there, whatever else the error looks like."""
        return self.kind == "DuplicateOrderId" or "duplicate" in self.words.lower() or self.code == -4116


def read_objection(error: Exception, secrets: tuple[str, ...] = ()) -> Objection:
    """Read an error; words that hold a secret are dropped."""
    text = str(error)
    code, words = _CODE.search(text), _WORDS.search(text)
    said = words.group(1) if words else ""
    if any(secret and secret in said for secret in secrets):
        said = ""
    return Objection(type(error).__name__, int(code.group(1)) if code else None, said)


def refuses(exchange: Exchange, objection: Objection) -> bool:
    """Return whether an error proves that an order was not placed and never will be."""
    if objection.is_duplicate:
        return False
    is_odd = objection.kind in ("RequestTimeout", "NetworkError", "ExchangeNotAvailable", "DDoSProtection")
    return objection.kind in REFUSING or (objection.code in exchange.refusals and not is_odd)


def deadline_fields(exchange: Exchange, sent_at: datetime) -> dict[str, int]:
    """Return the parameters that bind a request to its deadline, none where the exchange knows no such thing."""
    if not exchange.has_deadline or exchange.profile.deadline_s is None:
        return {}
    return {
        "timestamp": int(sent_at.timestamp() * 1000),
        "recvWindow": round(exchange.profile.deadline_s * 1000),
    }

"""What can be traded: a symbol in the vendor's spelling, its type, its market and its price steps."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.errors import InputError

TYPES = ("stock", "indices", "crypto", "forex", "futures")
MARKETS = ("GLOBAL", "US", "HK", "CN")

_SUFFIXES = {"US": ("US", "USD"), "HK": ("HK", "HKD"), "SH": ("CN", "CNY"), "SZ": ("CN", "CNY")}
_FUTURES = re.compile(r"^([A-Z]{1,2}\d{4}|[0-9A-Z]{1,3}[FGHJKMNQUVXZ]\d)$")
_CURRENCIES = "USD|EUR|GBP|JPY|CHF|AUD|CAD|NZD|CNH|HKD|XAU|XAG"
_FOREX = re.compile(rf"^({_CURRENCIES})({_CURRENCIES})$")
_CRYPTO = re.compile(r".(USDT|USDC|BUSD|BTC|-PERP|-USD)$")
_INDICES = frozenset({"SPX", "NDX", "DJI", "RUT", "VIX", "HSI", "N225", "DAX", "FTSE"})
_SPELLED = re.compile(r"^[0-9A-Z]+([.-][A-Z]+)?$")


@dataclass(frozen=True, slots=True)
class Instrument:
    """One tradable thing.

    Attributes:
        symbol: The vendor's spelling, such as ``BTCUSDT`` or ``700.HK``.
        type: One of `TYPES`.
        market: One of `MARKETS`; only US, HK and CN keep sessions.
        currency: What its prices are in.
        price_decimals: Digits after the point of its prices.
        lot_decimals: Digits after the point of its quantities.
    """

    symbol: str
    type: str
    market: str
    currency: str
    price_decimals: int = 2
    lot_decimals: int = 0

    @property
    def ticker(self) -> str:
        """The symbol without its market suffix, as the vendor's stream sometimes spells it."""
        return self.symbol.rsplit(".", 1)[0] if self.market != "GLOBAL" else self.symbol


def instrument(name: str, *, price_decimals: int = 2, lot_decimals: int = 0) -> Instrument:
    """Read an instrument out of its symbol; ``SPX:stock`` names a type that the symbol alone does not tell.

    Raises:
        InputError: The type after the colon is not one of the vendor's.
    """
    symbol, _, named = name.partition(":")
    if named and named not in TYPES:
        raise InputError(f"symbol {name!r}: expected a type out of {' '.join(TYPES)} after the colon, found {named!r}")
    market, currency = _SUFFIXES.get(symbol.rsplit(".", 1)[-1] if "." in symbol else "", ("GLOBAL", "USD"))
    return Instrument(symbol, named or _type_of(symbol, market), market, currency, price_decimals, lot_decimals)


def is_listed(symbol: str) -> bool:
    """Return whether the vendor could list a symbol: a stock with its market, a future, a pair, a coin, a known index.

    A market made for the symbols of a run lists these alone, so that a slip of the pen is refused as the vendor would.
    """
    if not _SPELLED.match(symbol):
        return False
    return instrument(symbol).type != "indices" or symbol in _INDICES


def _type_of(symbol: str, market: str) -> str:
    if market != "GLOBAL":
        return "stock"
    if _FUTURES.match(symbol):
        return "futures"
    if _FOREX.match(symbol):
        return "forex"
    return "crypto" if _CRYPTO.search(symbol) else "indices"

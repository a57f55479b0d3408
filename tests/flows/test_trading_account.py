"""What the account is worth to risk, without asking the market more than it has to."""

from __future__ import annotations

from decimal import Decimal

from flows.trading_account import Exposure
from tasks.orders.account import Limits, Market, TradingState


def test_what_is_held_is_valued_at_prices_of_at_most_a_second() -> None:
    """Within a second the market is asked once for each symbol; after it, or when the clock was set back, again."""
    prices, asked = {"BTCUSDT": Decimal(100), "ETHUSDT": None}, []

    def market(symbol: str) -> Market:
        asked.append(symbol)
        return Market(prices[symbol])

    exposure, held = Exposure(Limits(), market), {"BTCUSDT": Decimal(1), "ETHUSDT": Decimal(2)}

    def valued(now_s: float) -> dict[str, Decimal]:
        return exposure.book(TradingState.ACTIVE, held, (), now_s).prices

    assert valued(50.0) == {"BTCUSDT": Decimal(100)}
    prices |= {"BTCUSDT": Decimal(90), "ETHUSDT": Decimal(5)}
    assert valued(50.9) == {"BTCUSDT": Decimal(100)}
    assert sorted(asked) == ["BTCUSDT", "ETHUSDT"]
    assert valued(51.0) == {"BTCUSDT": Decimal(90), "ETHUSDT": Decimal(5)}
    prices["BTCUSDT"] = Decimal(80)
    assert valued(50.0)["BTCUSDT"] == Decimal(80)

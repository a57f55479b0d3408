"""What trading costs and how much is traded. Nothing here defaults to free."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_COSTS = ("fee_bps", "fixed_fee", "slippage_bps", "slippage_range")


class Costs(BaseModel):
    """How a signal becomes a fill.

    A fill happens at the open of the bar after the signal, moved against us by the slippage; the fee is charged on the
    moved price. Zero is allowed but has to be written.

    Attributes:
        fee_bps: Commission on the traded value, each way, in basis points.
        fixed_fee: Commission an order in the quote asset, on top.
        slippage_bps: Distance between the bar's open and our price, each way, in basis points.
        slippage_range: Further slippage as a share of the range of the bar before the fill: wild bars cost more.
        direction: Which side of the signals to trade, see `tasks.strategies.strategy`.
        initial_cash: Quote asset at the start.
        fraction: Share of the cash that an entry uses (a short sells as much as that share would buy).
        target_volatility: Yearly volatility an entry aims at: it uses this over the realised volatility of the
            `volatility_lookback` bars before, at most `fraction`. None for no target.
        volatility_lookback: Bars the realised volatility is measured on; no entry before there are as many.
        stop_loss: Exit where the price is this fraction against the entry, None for never. Checked on every bar that
            ends with the position open, its own entry bar included, after the fills at the open: a bar that opens
            beyond the level fills at its open, otherwise at the level; where stop and take-profit both lie within one
            bar the stop is taken. Both pay slippage.
        take_profit: The same on the other side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fee_bps: float = Field(5.0, ge=0, lt=5_000)
    fixed_fee: float = Field(0.0, ge=0)
    slippage_bps: float = Field(2.0, ge=0, lt=5_000)
    slippage_range: float = Field(0.0, ge=0, lt=1)
    direction: Literal["long", "short", "both"] = "long"
    initial_cash: float = Field(10_000.0, gt=0)
    fraction: float = Field(1.0, gt=0, le=1)
    target_volatility: float | None = Field(None, gt=0)
    volatility_lookback: int = Field(100, ge=2)
    stop_loss: float | None = Field(None, gt=0, lt=1)
    take_profit: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _a_reversal_is_whole(self) -> Costs:
        if self.direction == "both" and self.sized:
            raise ValueError(
                "expected fraction 1 and no target_volatility with direction both: a reversal is one order"
            )
        return self

    @property
    def sized(self) -> bool:
        """Whether an entry may use less than all cash."""
        return self.fraction < 1 or self.target_volatility is not None

    def scaled(self, factor: float) -> Costs:
        """Return the same rules with every cost multiplied, for the sensitivity table."""
        scaled = {name: getattr(self, name) * factor for name in _COSTS}
        return self.model_copy(update=scaled)

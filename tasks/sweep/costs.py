"""What trading costs and how much is traded. Nothing here defaults to free."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Costs(BaseModel):
    """How a signal becomes a fill.

    A fill happens at the open of the bar after the signal, moved against us by `slippage_bps`; the fee is charged on
    the moved price. Zero is allowed but has to be written.

    Attributes:
        fee_bps: Commission on the traded value, each way, in basis points.
        fixed_fee: Commission an order in the quote asset, on top.
        slippage_bps: Distance between the bar's open and our price, each way, in basis points.
        direction: Which side of the signals to trade, see `tasks.strategies.strategy`.
        initial_cash: Quote asset at the start; each entry uses all of it.
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
    direction: Literal["long", "short", "both"] = "long"
    initial_cash: float = Field(10_000.0, gt=0)
    stop_loss: float | None = Field(None, gt=0, lt=1)
    take_profit: float | None = Field(None, gt=0)

    def scaled(self, factor: float) -> Costs:
        """Return the same rules with every cost multiplied, for the sensitivity table."""
        scaled = {name: getattr(self, name) * factor for name in ("fee_bps", "fixed_fee", "slippage_bps")}
        return self.model_copy(update=scaled)

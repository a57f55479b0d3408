"""What trading costs and how much is traded. Nothing here defaults to free."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_COSTS = ("fee_bps", "maker_fee_bps", "fixed_fee", "min_fee", "slippage_bps", "slippage_range", "volume_impact")


class Costs(BaseModel):
    """How a signal becomes a fill.

    A fill happens at the open of the bar after the signal, moved against us by the slippage; the fee is charged on the
    moved price. Zero is allowed but has to be written. `docs/strategies.md` tells the order of events within a bar.
    """

    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True, extra="forbid")

    fee_bps: float = Field(5.0, ge=0, lt=5_000)
    """Commission on the traded value, each way, in basis points: what a market order pays (taker)."""

    maker_fee_bps: float | None = Field(None, ge=0, lt=5_000)
    """What a limit order at rest pays. None: a take-profit is a market order like any other, and pays `fee_bps` and
    slippage. Given: it rests at its level, pays this and no slippage there; where the bar opens beyond it, it is filled
    at the open as a market order. Every other fill is a taker's.
    """

    fixed_fee: float = Field(0.0, ge=0)
    """Commission a fill in the quote asset, on top."""

    min_fee: float = Field(0.0, ge=0)
    """Least commission on the value of a fill in the quote asset, where the rate gives less."""

    slippage_bps: float = Field(2.0, ge=0, lt=5_000)
    """Distance between the bar's open and our price, each way, in basis points."""

    slippage_range: float = Field(0.0, ge=0, lt=1)
    """Further slippage as a share of the range of the bar before the fill: wild bars cost more."""

    volume_share: float | None = Field(None, gt=0, le=1)
    """Most of a bar's volume that our fills on it take, None for no cap. What is cut off is worked on at the opens that
    follow, until it is done, the view changes or the run ends.
    """

    volume_impact: float = Field(0.0, ge=0, le=100)
    """Further slippage: this times the square of the share of the bar's volume that the order takes (as zipline's
    volume share slippage, whose own figures are a share of 0.025 and an impact of 0.1).
    """

    direction: Literal["long", "short", "both"] = "long"
    """Which side of the signals to trade, see `tasks.strategies.strategy`."""

    initial_cash: float = Field(10_000.0, gt=0)
    """Quote asset at the start."""

    fraction: float = Field(1.0, gt=0, le=1)
    """Share of the cash that an entry uses (a short sells as much as that share would buy)."""

    entry_value: float | None = Field(None, gt=0)
    """Quote asset an entry trades, as far as `fraction` allows; None for no fixed size."""

    target_volatility: float | None = Field(None, gt=0)
    """Yearly volatility an entry aims at: it uses this over the realised volatility of the `volatility_lookback` bars
    before, at most `fraction`. None for no target.
    """

    volatility_lookback: int = Field(100, ge=2)
    """Bars the realised volatility is measured on; no entry before there are as many."""

    stop_loss: float | None = Field(None, gt=0, lt=1)
    """Exit where the price is this fraction against the entry, None for never. Checked on every bar that ends with the
    position open, its own entry bar included, after the fills at the open: a bar that opens beyond the level fills at
    its open, otherwise at the level; where stop and take-profit both lie within one bar the stop is taken. Both pay
    slippage.
    """

    take_profit: float | None = Field(None, gt=0)
    """The same on the other side."""

    @model_validator(mode="after")
    def _a_reversal_is_whole(self) -> Costs:
        if self.direction == "both" and self.sized:
            raise ValueError(
                "expected fraction 1, no entry_value and no target_volatility with direction both: "
                "a reversal is one order"
            )
        return self

    @model_validator(mode="after")
    def _impact_is_bounded(self) -> Costs:
        if self.volume_impact > 0 and self.volume_share is None:
            raise ValueError(
                "expected volume_share beside volume_impact: a fill needs a share of the volume to move it"
            )
        return self

    @property
    def sized(self) -> bool:
        """Whether an entry may use less than all cash."""
        return self.fraction < 1 or self.target_volatility is not None or self.entry_value is not None

    @property
    def stopped(self) -> bool:
        """Whether a position may be closed within a bar."""
        return self.stop_loss is not None or self.take_profit is not None

    @property
    def worked(self) -> bool:
        """Whether orders have rules of their own that VectorBT's `from_signals` has no words for."""
        ruled = (self.maker_fee_bps, self.volume_share, self.entry_value)
        return self.min_fee > 0 or any(value is not None for value in ruled)

    def scaled(self, factor: float) -> Costs:
        """Return the same rules with every cost multiplied, for the sensitivity table."""
        scaled = {name: getattr(self, name) * factor for name in _COSTS if getattr(self, name) is not None}
        return self.model_copy(update=scaled)

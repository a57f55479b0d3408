"""What a portfolio is asked to be, as a small value that travels between processes; prices stay in the lake."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.sweep.costs import Costs

Method = Literal["equal", "inverse_volatility", "minimum_variance", "mean_variance", "hierarchical_risk_parity"]
METHODS: tuple[Method, ...] = (
    "equal",
    "inverse_volatility",
    "minimum_variance",
    "mean_variance",
    "hierarchical_risk_parity",
)
Rebalance = Literal["1d", "1w", "1mo"]

#: What of `Costs` a rebalancing order knows; every other rule belongs to a strategy's entries and exits.
_KNOWN = {"fee_bps", "fixed_fee", "slippage_bps", "slippage_range", "initial_cash"}


class PortfolioRequest(BaseModel):
    """One portfolio, weighed by several methods over the same members.

    Attributes:
        symbols: Members that are symbols, in the vendor's spelling; empty for a portfolio of runs.
        runs: Members that are finished sweeps, by run id: each is its out-of-sample walk-forward equity.
        interval: Length of a bar; that of the runs where they are the members.
        methods: How weights are found; equal weight is always among them, as what the others are held against.
        rebalance: Decide at the last bar of every day, week (Monday to Sunday) or month, UTC.
        lookback: Returns that weights are estimated from, all of them before the decision.
        max_weight: Most that minimum variance, mean-variance and hierarchical risk parity give to one member.
        costs: Fees, slippage and the first cash; what belongs to a strategy's entries and exits is refused.
        start: First open, None for all there is.
        end: Exclusive last open, None for all there is.
        lake_version: Version of the bars to read; None for the newest.
        seed: Of the resampling behind the verdict.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbols: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    interval: str
    methods: tuple[Method, ...] = METHODS
    rebalance: Rebalance = "1w"
    lookback: int = Field(250, ge=20, le=100_000)
    max_weight: float = Field(1.0, gt=0, le=1)
    costs: Costs = Costs()
    start: datetime | None = None
    end: datetime | None = None
    lake_version: int | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _members_are_of_one_kind(self) -> PortfolioRequest:
        if bool(self.symbols) == bool(self.runs) or len(set(self.names)) < max(2, len(self.names)):
            raise ValueError(
                f"expected two or more different symbols, or two or more different runs, and not both; found "
                f"{len(self.symbols)} symbols and {len(self.runs)} runs"
            )
        return self

    @model_validator(mode="after")
    def _costs_can_be_kept(self) -> PortfolioRequest:
        plain = Costs()
        rules = [name for name in Costs.model_fields if name not in _KNOWN]
        unknown = [name for name in rules if getattr(self.costs, name) != getattr(plain, name)]
        if unknown:
            raise ValueError(f"expected costs of {', '.join(sorted(_KNOWN))} alone, found {', '.join(unknown)}")
        if self.runs and self.costs.slippage_range:
            raise ValueError("expected slippage_range 0 for a portfolio of runs: an equity curve has no high and low")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The members in their order."""
        return self.symbols or self.runs

    @property
    def ordered_methods(self) -> tuple[Method, ...]:
        """The methods asked for, equal weight first."""
        return tuple(method for method in METHODS if method == "equal" or method in self.methods)

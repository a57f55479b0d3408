"""From closed bars to proposals: the same strategy function as research, one bar at a time. Pure; time is an argument.

The signal function runs over everything that is remembered, exactly as the sweep runs it over its sample, and only the
newest bar's flags are acted on. Indicators and signal functions may depend on their whole path (Wilder's averages, a
trailing exit), so that nothing is cut to a short tail: decisions equal the sweep's bar for bar where the history begins
where the sweep's bars begin, and as closely as the strategy's `warm_up` promises where it begins later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import structlog
from pydantic import ValidationError

from flows.sizing import Sizing
from flows.trading_proposal import Proposal
from lake.schema import as_bars
from tasks.errors import InputError
from tasks.orders.identity import signal_key
from tasks.orders.order import Side
from tasks.strategies.book_gate import BookGate, BookView
from tasks.strategies.registry import get
from tasks.strategies.strategy import Params, Strategy, bar_matrix
from tasks.sweep.grid import Grid

log = structlog.get_logger("flows.signals")

#: Bars that are remembered; beyond them the older half is forgotten. A year of minutes takes about 20 ms a bar.
MOST_BARS = 500_000
#: Pieces that memory may lie in: joining them on every bar costs more than reading a few.
_CHUNKS = 64
_TARGETS = {1: "long", 0: "flat", -1: "short"}


@dataclass(frozen=True, slots=True)
class Decision:
    """What a closed bar led to, for whoever has to explain it.

    Attributes:
        timestamp: The newest bar's open.
        view: Of that bar: 1 bullish, -1 bearish, 0 neither.
        side: The side of the market the strategy wants, by the last view there was; None before the first.
        decided_on: The bar of that last view.
        position: Held at the time.
        equity: Of the account at the time.
        price: At the time.
        at: When it was decided.
        bars: How many bars it was decided from.
        book: The order book at the time, None where nobody looked.
        restated: How many of the bars the vendor corrected since the decision before.
        proposal: What is asked for, None for nothing.
    """

    timestamp: datetime
    view: int
    side: int | None
    decided_on: datetime | None
    position: Decimal
    equity: Decimal | None
    price: Decimal | None
    at: datetime
    bars: int
    book: BookView | None = None
    restated: int = 0
    proposal: Proposal | None = None

    def wants_out_of(self, position: Decimal) -> bool:
        """Return whether a position is on a side that the strategy does not want."""
        return self.side is not None and _sign(position) not in (0, self.side)


@dataclass(frozen=True, slots=True)
class Turned:
    """A view that a correction of bars changed after it had been decided on.

    Attributes:
        timestamp: Of the bar.
        was: The view then.
        now: The view by the corrected bars.
        signal_key: Of the order that the view then led to, empty where it was neither.
    """

    timestamp: datetime
    was: int
    now: int
    signal_key: str


class StrategyDriver:
    """One strategy on one symbol, fed by bars as they close.

    A fresh view asks for an order where the position is not on the side it wants. What opens a position is asked for
    once, if the book lets it pass; a late or missed signal opens nothing, and a position that came to rest beside its
    target (partly filled, rounded, paid in fees) is left alone until the next view. What closes one is asked for until
    nothing is left that can be sold: at each close, and between them by `finish`.

    Args:
        strategy_name: Name in `tasks.strategies`.
        params: Its parameters; the strategy's defaults for those left out.
        symbol: In the broker's spelling.
        interval: Length of a bar.
        sizing: How large orders are.
        history: Bars before the first one that is decided on; at least `warm_up` of them, or nothing is decided before
            there are as many.
        gate: What the book must say before a position is opened.

    Attributes:
        warm_up: Bars the strategy needs before its signals can be trusted.
        last: What the newest bar led to, None before the first.
        turned: Earlier views that the bars fed last changed, because they were corrections.

    Raises:
        InputError: An unknown strategy, or parameters it does not take.
    """

    def __init__(
        self,
        strategy_name: str,
        params: Mapping[str, Any],
        symbol: str,
        interval: str,
        *,
        sizing: Sizing,
        history: pl.DataFrame,
        gate: BookGate = BookGate(),  # noqa: B008  (frozen)
    ) -> None:
        self._strategy = get(strategy_name)
        self._params = checked_params(self._strategy, params)
        self._symbol, self._interval, self._sizing = symbol, interval, sizing
        self._bars, self._gate = as_bars(history), gate
        self._restated = self._finished = 0
        self.warm_up = self._strategy.warm_up(self._params)
        self.last: Decision | None = None
        self.turned: tuple[Turned, ...] = ()

    @property
    def bars(self) -> pl.DataFrame:
        """Everything remembered, as it was fed."""
        return self._bars

    def on_bar(
        self,
        bars: pl.DataFrame,
        position: Decimal,
        equity: Decimal | None,
        price: Decimal | None,
        at: datetime,
        book: BookView | None = None,
    ) -> Proposal | None:
        """Take newly closed bars and return the order that follows, None for none.

        Bars that are known already replace what was known (the vendor restated them) and decide nothing by themselves.

        Args:
            bars: `BARS` rows in order; several after an outage, of which only the newest can open a position.
            position: Held now, negative for a short.
            equity: What the account is worth, None where unknown: no position is opened then.
            price: What the symbol trades at, None where unknown: likewise.
            at: Now.
            book: What the order book says now.
        """
        before = self._bars
        fresh, restated = self._remember(bars)
        views = self._views(self._bars) if fresh or restated else None
        self.turned = self._turned(before, views) if restated and views is not None else ()
        if not fresh or views is None:
            return None
        decision = self._decide(views, position, equity, price, at, book)
        proposal = self._answer(decision, self._side_before(views, np.flatnonzero(views), position))
        self.last, self._restated, self._finished = replace(decision, proposal=proposal), 0, 0
        return proposal

    def recall(self, position: Decimal, at: datetime) -> None:
        """Take what the history ends on for the last decision: what closed unseen opens nothing, and `finish` closes.

        Args:
            position: Held now.
            at: Now.
        """
        self.last = self._decide(self._views(self._bars), position, None, None, at, None)

    def finish(self, position: Decimal, price: Decimal | None, at: datetime) -> Proposal | None:
        """Return the order for the rest of what should be closed already, between bars; None where nothing is left.

        Args:
            position: Held now.
            price: What the symbol trades at.
            at: Now.
        """
        if self.last is None or not self.last.wants_out_of(position):
            return None
        self._finished += 1
        decision = replace(self.last, position=position, price=price, at=at)
        return self._ask(decision, 0, f"again {decision.timestamp.isoformat()} #{self._finished}")

    def close_out(self, position: Decimal, price: Decimal | None, at: datetime, why: str) -> Proposal | None:
        """Return the order that leaves the market whatever the strategy thinks; `why` names it for ever."""
        quantity = self._sizing.order(0, position, None, price)
        return self._propose(why, 0, quantity, at) if quantity else None

    def _decide(
        self,
        views: np.ndarray,
        position: Decimal,
        equity: Decimal | None,
        price: Decimal | None,
        at: datetime,
        book: BookView | None,
    ) -> Decision:
        stamps, turns = self._bars["timestamp"], np.flatnonzero(views)
        side = self._sizing.side_of(int(views[turns[-1]])) if turns.size else None
        decided_on = stamps[int(turns[-1])] if turns.size else None
        now = position, equity, price, at, len(stamps), book, self._restated
        return Decision(stamps[-1], int(views[-1]), side, decided_on, *now)

    def _remember(self, bars: pl.DataFrame) -> tuple[int, int]:
        """Take bars into memory; return how many are newer than all before, and how many are not."""
        bars = as_bars(bars)
        newest = self._bars["timestamp"].max() if self._bars.height else None
        fresh = bars.height if newest is None else int((bars["timestamp"] > newest).sum())
        self._restated += bars.height - fresh
        joined = self._bars.vstack(bars)
        if fresh < bars.height:
            joined = joined.unique("timestamp", keep="last").sort("timestamp")
        elif joined.n_chunks() > _CHUNKS:
            joined = joined.rechunk()
        self._bars = joined.tail(MOST_BARS // 2) if joined.height > MOST_BARS else joined
        return fresh, bars.height - fresh

    def _views(self, bars: pl.DataFrame) -> np.ndarray:
        views = views_of(self._strategy, self._params, bars)
        if bars.height <= self.warm_up:
            views[:] = 0
        return views

    def _turned(self, before: pl.DataFrame, views: np.ndarray) -> tuple[Turned, ...]:
        """Return where the views of the bars before differ from those of the same bars now."""
        then = before.select("timestamp", was=pl.Series(self._views(before)))
        both = then.join(
            self._bars.select("timestamp", now=pl.Series(views)), on="timestamp", maintain_order="left"
        ).filter(pl.col("was") != pl.col("now"))
        return tuple(Turned(at, was, now, self._key_of(at, was)) for at, was, now in both.iter_rows())

    def _key_of(self, timestamp: datetime, view: int) -> str:
        if not view:
            return ""
        target = _TARGETS[self._sizing.side_of(view)]
        return signal_key(self._symbol, self._interval, target, timestamp.isoformat())

    def _side_before(self, views: np.ndarray, turns: np.ndarray, position: Decimal) -> int:
        """Return the side that was wanted before the newest view.

        What was decided then counts, not what corrected bars make of it now: or a target that was reached would be
        asked for again.
        """
        last, earlier = self.last, self._bars["timestamp"][int(turns[-2])] if turns.size > 1 else None
        if last is not None and last.side is not None and (earlier is None or earlier <= last.timestamp):
            return last.side
        return _sign(position) if earlier is None else self._sizing.side_of(int(views[turns[-2]]))

    def _answer(self, decision: Decision, before: int) -> Proposal | None:
        """Return the order that a decision leads to."""
        if decision.side is None or decision.decided_on is None:
            return None
        if decision.decided_on != decision.timestamp:  # an earlier view: a new attempt, with a name of its own
            again = f"again {decision.timestamp.isoformat()}"
            return self._ask(decision, 0, again) if decision.wants_out_of(decision.position) else None
        if _sign(decision.position) == decision.side == before:
            return None
        return self._ask(decision, decision.side)

    def _ask(self, decision: Decision, side: int, leg: str = "") -> Proposal | None:
        quantity = self._sizing.order(side, decision.position, decision.equity, decision.price)
        if not quantity or decision.decided_on is None:
            if quantity is None:
                at = str(decision.timestamp)
                log.warning(
                    "signal.not_sized", symbol=self._symbol, bar=at, equity=decision.equity, price=decision.price
                )
            return None
        opens = quantity * decision.position >= 0
        objection = self._gate.objection(_sign(quantity), decision.book) if opens else ""
        evidence = self._evidence(decision)
        return self._propose(
            decision.decided_on.isoformat(), side, quantity, decision.at, leg, objection=objection, evidence=evidence
        )

    def _evidence(self, decision: Decision) -> dict[str, Any]:
        """Return what was known when it was decided, for the journal."""
        told: dict[str, Any] = {
            "bar": self._bars.row(by_predicate=pl.col("timestamp") == decision.timestamp, named=True),
            "bars": decision.bars,
            "view": decision.view,
            "decided_on": decision.decided_on,
            "position": decision.position,
            "price": decision.price,
        }
        if decision.restated:
            told["restated"] = decision.restated
        if self._gate.is_set:
            told |= {"gate": self._gate.model_dump(exclude_none=True), "book": decision.book}
        return told

    def _propose(self, moment: str, side: int, quantity: Decimal, at: datetime, leg: str = "", **more: Any) -> Proposal:
        key = signal_key(self._symbol, self._interval, _TARGETS[side], moment)
        way = Side.BUY if quantity > 0 else Side.SELL
        wished = self._strategy.name, self._symbol, way, abs(quantity), key, at
        return Proposal(*wished, leg=leg, closes=side == 0, **more)


def views_of(strategy: Strategy, params: Params, bars: pl.DataFrame) -> np.ndarray:
    """Return the view of each bar, 1 bullish, -1 bearish, 0 neither or both, computed as the sweep computes it."""
    grid, matrix = Grid(strategy, (params,)), bar_matrix(bars)
    entries, exits = np.empty(bars.height, np.bool_), np.empty(bars.height, np.bool_)
    strategy.signal(matrix, grid.rows(matrix), grid.use[0], grid.vectors[0], entries, exits)
    return entries.astype(np.int8) - exits.astype(np.int8)


def checked_params(strategy: Strategy, params: Mapping[str, Any]) -> Params:
    """Return the parameter set, the strategy's defaults for those left out; raises `InputError` where it refuses."""
    try:
        return strategy.params(**params)
    except ValidationError as error:
        raise InputError(f"signals: {strategy.name} does not take {dict(params)}: {error}") from error


def _sign(value: Decimal) -> int:
    return (value > 0) - (value < 0)

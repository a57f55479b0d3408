"""The strategies of a live run: each is handed every closed bar once, and one that falls silent is noticed."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl
import structlog

from flows.live_account import Account, Steps
from flows.live_exits import AGAIN_S, Closing, Exit, unfinished
from flows.trading_proposal import Proposal
from lake.schema import BARS
from lake.store import Lake
from lake.timeline import EPOCH, INTERVALS
from tasks.strategies.book_gate import BookView

if TYPE_CHECKING:
    from flows.signals import StrategyDriver

log = structlog.get_logger("flows.live")

#: A strategy that has not handled a bar for so long after it was due halts trading.
DEAD_MAN_S = 60.0
#: A bar is due this long after its close, by the market's clock.
_DUE_AFTER = timedelta(seconds=5)
#: Bars before the first one that is decided on: fetched at least, read at most.
_LEAST_HISTORY, _MOST_HISTORY = 500, 250_000
_TRIAL_BARS = 3
#: A market that trades while so many of its bars are missing has a vendor whose bars stopped: trading halts.
_STOPPED_BARS = 3
#: Newest bars that are held against the lake at each close, for corrections; and how many of those are written down.
_REVIEWED, _TOLD = 5_000, 20


class Trader(Closing, Protocol):
    """What a strategy sees of the account, and where its wishes go."""

    @property
    def equity(self) -> Decimal | None:
        """What the account is worth."""
        ...

    def book(self, symbol: str) -> BookView:
        """Return what the order book says now."""
        ...

    def note(self, body: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
        """Write down that bars were corrected, and by signal key what that changes about the order it led to."""
        ...

    def propose(self, proposal: Proposal) -> str:
        """Ask for an order."""
        ...

    def halt(self, reason: str) -> None:
        """Stop trading."""
        ...


@dataclass(slots=True)
class _Run:
    driver: StrategyDriver
    next_open: datetime
    bars: int = 0
    signals: int = 0
    last_signal: str = ""
    late: int = 0
    restated: int = 0
    broken: str = ""


class Strategies:
    """One strategy on every symbol of a run.

    Args:
        account: What is traded; its plan names the strategy.
        symbols: In the vendor's spelling.
        interval: Length of a bar.
        lake: Where bars are.
        trader: The account, and where wishes go.
        market_now: The market's time.
        wall_now: Ours.
        has_bar: Whether the bar of a symbol that opens at a moment is to be expected.
        last_trade: When it traded last, by the stream and the market's clock.
        dead_man_s: How long a strategy may be silent.
    """

    def __init__(
        self,
        account: Account,
        symbols: list[str],
        interval: str,
        *,
        lake: Lake,
        trader: Trader,
        market_now: Callable[[], datetime],
        wall_now: Callable[[], datetime],
        has_bar: Callable[[str, datetime], bool],
        last_trade: Callable[[str], datetime | None],
        dead_man_s: float = DEAD_MAN_S,
    ) -> None:
        self._account, self._symbols, self._last_trade = account, list(symbols), last_trade
        self._interval, self._step = interval, INTERVALS[interval]
        self._lake, self._trader = lake, trader
        self._market_now, self._wall_now, self._has_bar = market_now, wall_now, has_bar
        self._dead_man_s = dead_man_s
        self._runs: dict[str, _Run] = {}
        self._exits: list[Exit] = []
        self._seen: dict[str, datetime] = {}
        self._began, self._traded = market_now(), dict[str, datetime | None]()  # the first trade since the newest bar
        self._beats = dict.fromkeys(self._symbols, monotonic())
        self._stopping = False

    def prepare(self) -> int:
        """Load and compile the strategy, before anything has to be on time; return the bars it wants to begin with.

        A strategy of its own sees a few bars that never were: the first call is what compiles the indicators.

        Raises:
            InputError: There is no such strategy, or it does not take these parameters.
        """
        driver, ones = self._driver(self._symbols[0], pl.DataFrame(schema=BARS)), [1.0] * _TRIAL_BARS
        stamps = [EPOCH + number * timedelta(minutes=1) for number in range(_TRIAL_BARS)]
        bars = pl.DataFrame({name: stamps if name == "timestamp" else ones for name in BARS}, schema=BARS)
        driver.on_bar(bars, Decimal(0), None, None, self._wall_now())
        return max(_LEAST_HISTORY, 3 * driver.warm_up)

    async def take(self, symbol: str) -> None:
        """Hand a symbol's bars that closed since the last time to its strategy; the first time they are its history."""
        end = self._step.closed_end(self._market_now())
        run = self._runs.get(symbol)
        if run is None:
            await self._begin(symbol, end)
        else:
            bars = await asyncio.to_thread(self._news, symbol, run, end)
            if bars.height and not run.broken:
                await self._hand(symbol, run, bars)
        self._seen[symbol] = end  # also where the vendor has no bar: nobody traded, and that is no silence

    def misses(self, symbol: str) -> bool:
        """Return whether a bar that has closed did not come, although the stream saw somebody trade in it."""
        run, first = self._runs.get(symbol), self._traded.get(symbol)
        closed = self._step.closed_end(self._market_now())
        return run is not None and first is not None and run.next_open <= first < closed

    def stop(self) -> None:
        """Propose nothing more."""
        self._stopping = True

    async def watch(self) -> None:
        """Halt where a strategy is silent for too long, for ever: it did not get its bars, or did not come back.

        A minute without trades has no bar, and that is no silence; a market that trades and has no bars is worse.
        """
        self._beats = dict.fromkeys(self._symbols, monotonic())
        while True:
            await asyncio.sleep(min(1.0, self._dead_man_s / 4))
            for symbol in self._symbols:
                silent_s = self._silent_s(symbol)
                if silent_s > self._dead_man_s:
                    self._trader.halt(f"the strategy on {symbol} has been silent for more than {self._dead_man_s:g} s")
                if (stopped := self._stopped(symbol)) is not None:
                    self._trader.halt(f"{symbol} traded at {stopped}, and no bar of it has come since")

    async def finish(self) -> None:
        """Ask again, for ever, for what an exit left open."""
        while True:
            await asyncio.sleep(AGAIN_S / 2)
            proposal = None if self._stopping else unfinished(self._exits, self._trader, monotonic(), self._wall_now())
            if proposal is not None:
                log.info("exit.unfinished", symbol=proposal.symbol, quantity=proposal.quantity, leg=proposal.leg)
                self._trader.propose(proposal)

    def describe(self) -> list[dict[str, Any]]:
        """Return every strategy's state as plain values."""
        return [
            {
                "symbol": symbol,
                "strategy": self._account.plan.strategy,
                "interval": self._interval,
                "bars": run.bars if run else 0,
                "signals": run.signals if run else 0,
                "late": run.late if run else 0,
                "restated": run.restated if run else 0,
                "last_signal": run.last_signal if run else "",
                "wants": _wanted(run.driver) if run else "nothing yet",
                "silent_s": round(self._silent_s(symbol), 1),
                "broken": run.broken if run else "",
            }
            for symbol in self._symbols
            for run in (self._runs.get(symbol),)
        ]

    def _silent_s(self, symbol: str) -> float:
        run, due = self._runs.get(symbol), self._step.closed_end(self._market_now() - _DUE_AFTER)
        newest = self._step.floor(due - timedelta.resolution)
        is_due = self._has_bar(symbol, newest) and self._seen.get(symbol, EPOCH) < due
        if not is_due and not (run and run.broken):
            self._beats[symbol] = monotonic()
        return monotonic() - self._beats[symbol]

    def _stopped(self, symbol: str) -> datetime | None:
        """Return the first trade since the newest bar, or the start, where bars should have told of it long ago."""
        run, newest, first = self._runs.get(symbol), self._last_trade(symbol), self._traded.get(symbol)
        since = run.next_open if run else self._began
        if first is None or first < since:
            first = self._traded[symbol] = newest if newest is not None and newest >= since else None
        due, step = self._step.closed_end(self._market_now() - _DUE_AFTER), self._step.step or timedelta(days=31)
        return first if first is not None and first + _STOPPED_BARS * step <= due else None

    async def _begin(self, symbol: str, end: datetime) -> None:
        step = self._step.step or timedelta(days=31)
        first = end - min(step * _MOST_HISTORY, end - EPOCH)
        history = await asyncio.to_thread(self._lake.read_bars, symbol, self._interval, first, end)
        if not history.height:
            log.warning("strategy.no_bars", symbol=symbol, interval=self._interval)
            return
        driver, traded = await asyncio.to_thread(self._driver, symbol, history), self._account.spelling[symbol]
        run = self._runs[symbol] = _Run(driver, self._step.next(history["timestamp"][-1]))
        try:
            await asyncio.to_thread(driver.recall, self._trader.position(traded), self._wall_now())
        except Exception as error:  # noqa: BLE001  (as below)
            self._fail(symbol, run, error)
            return
        self._exits.append(Exit(driver, traded))
        log.info("strategy.started", symbol=symbol, strategy=self._account.plan.strategy, history=history.height)
        if history.height <= driver.warm_up:
            log.warning("strategy.warming_up", symbol=symbol, bars=history.height, wanted=driver.warm_up)

    def _news(self, symbol: str, run: _Run, end: datetime) -> pl.DataFrame:
        """Return the bars that closed since the last time, and before them those that say something else now."""
        known = run.driver.bars.tail(_REVIEWED)
        bars = self._lake.read_bars(symbol, self._interval, known["timestamp"][0], end)
        return bars.join(known, on=bars.columns, how="anti", nulls_equal=True, maintain_order="left")

    async def _hand(self, symbol: str, run: _Run, bars: pl.DataFrame) -> None:
        traded, trader, at = self._account.spelling[symbol], self._trader, self._wall_now()
        before, held = run.driver.bars, trader.position(traded)
        try:
            proposal = await asyncio.to_thread(
                run.driver.on_bar, bars, held, trader.equity, trader.price(traded), at, trader.book(traded)
            )
        except Exception as error:  # noqa: BLE001  (a strategy may fail in any way: it stops, and so does trading)
            self._fail(symbol, run, error)
            return
        corrected = bars.filter(pl.col("timestamp") < run.next_open)
        if corrected.height:
            self._note(symbol, run, before, corrected)
        if corrected.height < bars.height:
            run.bars += bars.height - corrected.height
            run.next_open = self._step.next(bars["timestamp"][-1])
        if proposal is None:
            return
        if self._stopping or self._step.next(run.next_open) <= self._market_now():
            run.late += 1  # a newer bar has closed meanwhile: whatever this one said is history
            log.warning("signal.late", symbol=symbol, bar=str(bars["timestamp"][-1]), signal=proposal.signal_key)
            return
        run.signals, run.last_signal = run.signals + 1, proposal.signal_key
        log.info("signal.proposed", signal=proposal.signal_key, side=str(proposal.side), quantity=proposal.quantity)
        trader.propose(proposal)

    def _fail(self, symbol: str, run: _Run, error: Exception) -> None:
        run.broken = f"{type(error).__name__}: {error}"
        lines = "".join(traceback.format_exception(error))  # structlog's own would print every local value
        log.error("strategy.failed", symbol=symbol, stack=lines)
        self._trader.halt(f"the strategy on {symbol} failed: {run.broken}")

    def _note(self, symbol: str, run: _Run, before: pl.DataFrame, corrected: pl.DataFrame) -> None:
        """Write down what the vendor says otherwise now, and which decisions that changes."""
        run.restated += corrected.height
        moved = corrected.join(before, on="timestamp", how="left", suffix="_was", maintain_order="left")
        turned = [asdict(one) for one in run.driver.turned[-_TOLD:]]
        words = {"cause": "data revision", "symbol": symbol, "interval": self._interval}
        told = {**words, "bars": corrected.height, "corrected": moved.tail(_TOLD).to_dicts(), "turned": turned}
        log.warning("bars.corrected", symbol=symbol, bars=corrected.height, decisions=len(run.driver.turned))
        self._trader.note(told, {one["signal_key"]: {**words, **one} for one in turned if one["signal_key"]})

    def _driver(self, symbol: str, history: pl.DataFrame) -> StrategyDriver:
        from flows.signals import StrategyDriver  # Numba and the sweep load only where a strategy runs
        from flows.sizing import Sizing
        from tasks.sweep.costs import Costs

        plan, traded = self._account.plan, self._account.spelling[symbol]
        steps = self._account.steps.get(traded, Steps())
        costs = Costs(direction=plan.direction, fraction=plan.position_fraction)
        sizing = Sizing(costs, quantity_step=steps.quantity, min_notional=steps.least)
        return StrategyDriver(
            plan.strategy,
            plan.strategy_params,
            traded,
            self._interval,
            sizing=sizing,
            history=history,
            gate=plan.book_gate,
        )


def _wanted(driver: StrategyDriver) -> str:
    """Return the side of the market a strategy wants, in a word."""
    side = driver.last.side if driver.last else None
    return "nothing yet" if side is None else {1: "long", 0: "flat", -1: "short"}[side]

"""The fused grid engine: signals and trades of many parameter sets, without a bars × combinations matrix.

Threads take parameter sets; each set has its strategy's compiled signal function (called by pointer, so that this
module is compiled once for all strategies) write two flags a bar, and the simulator walks the bars once a segment.
Orders, fees, trades and figures follow VectorBT's arithmetic operation by operation, ties of rounding included
(`_add`, `_close_to` are its rules), because `tasks.sweep.certify` compares the two to 1e-9.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import boolean, float64, int64, njit, types

from tasks.strategies.strategy import CLOSE, HIGH, LOW, OPEN, SIGNATURE
from tasks.sweep.costs import Costs
from tasks.sweep.market import SweepBars

#: Columns of the figures: `result.FIGURES`, then the sums of returns and of squared returns.
WIDTH = 7
LOG_WIDTH = 8
# Places in the vectors the compiled functions share: what trading costs, one account, its equity curve so far.
_FEE, _FIXED, _INITIAL, _LONG, _SHORT, _STOP, _PROFIT = range(7)
_CASH, _POSITION, _ENTRY, _PAID, _TRADES, _WINS, _NOW, _SINCE = range(8)
_VALUE, _GROWTH, _PEAK, _TROUGH, _WORST, _TOTAL, _SQUARES = range(7)
#: Parameter sets a thread takes at once: enough work to forget the hand-over, little enough to share evenly.
_BATCH = 32

_rows = types.Array(float64, 2, "C")
_flags = types.Array(boolean, 1, "C")
_vector = types.Array(float64, 1, "C")
_pairs = types.Array(int64, 2, "C")
_BATCH_SIGNATURE = types.void(
    types.FunctionType(SIGNATURE),
    *(
        _rows,
        _rows,
        _pairs,
        _rows,
        _flags,
        _vector,
        _vector,
        _vector,
        _pairs,
        int64,
        int64,
        types.Array(float64, 3, "C"),
        _rows,
    ),
)


@njit(inline="always")
def _close_to(a: float, b: float) -> bool:
    return a == b or abs(a - b) <= max(1e-9 * max(abs(a), abs(b)), 1e-12)


@njit(inline="always")
def _add(a: float, b: float) -> float:
    if (a < 0) != (b < 0) and _close_to(abs(a), abs(b)):
        return 0.0
    return a + b


@njit(cache=True, nogil=True)
def _buy(cash: float, wanted: float, price: float, fee: float, fixed: float) -> tuple[float, float, float]:
    """Buy `wanted` or as much as the cash pays for; return quantity (0 where none), fees paid and cash left."""
    total = wanted * price
    paid = total * fee + fixed
    total += paid
    if np.isfinite(wanted) and (_close_to(total, cash) or total < cash):
        return wanted, paid, _add(cash, -total)
    spend = _add(cash, -fixed) / (1 + fee)
    if cash == 0 or spend <= 0:
        return 0.0, 0.0, cash
    return spend / price, cash - spend, 0.0


@njit(cache=True, nogil=True)
def _sell(cash: float, quantity: float, price: float, fee: float, fixed: float) -> tuple[float, float, float]:
    """Sell `quantity`; return it (0 where the fees exceed the proceeds), fees paid and cash left."""
    proceeds = quantity * price
    paid = proceeds * fee + fixed
    gained = _add(proceeds, -paid)
    if quantity <= 0 or _close_to(quantity, 0.0) or gained < 0:
        return 0.0, 0.0, cash
    return quantity, paid, cash + gained


@njit(cache=True, nogil=True)
def _close(account: np.ndarray, quantity: float, price: float, fees: float, sold: float, log: np.ndarray) -> None:
    """Book the closing of `quantity` by an order that moved `sold` in all and cost `fees`; its fees are shared out."""
    side, held = (1.0 if account[_POSITION] > 0 else -1.0), abs(account[_POSITION])
    entry_fees = account[_PAID] * quantity / held
    moved = _add(quantity * price, -(quantity * (held * account[_ENTRY] / held)))
    profit = side * moved - entry_fees - quantity / sold * fees
    if account[_TRADES] < log.shape[0]:
        row = log[int(account[_TRADES])]
        row[0], row[1], row[2], row[3] = account[_SINCE], account[_NOW], side, quantity
        row[4], row[5], row[6], row[7] = account[_ENTRY], price, entry_fees + quantity / sold * fees, profit
    account[_WINS] += profit > 0
    account[_TRADES] += 1
    account[_PAID] -= entry_fees
    account[_POSITION] = _add(account[_POSITION], -side * sold)
    if account[_POSITION] * side < 0:  # the order went on to the other side
        account[_ENTRY], account[_PAID] = price, fees - quantity / sold * fees
        account[_SINCE] = account[_NOW]


@njit(cache=True, nogil=True)
def _sell_out(account: np.ndarray, price: float, reverse: bool, fee: float, fixed: float, log: np.ndarray) -> None:
    """Close a long position; on a reversal the same order sells short what the proceeds would buy."""
    held, cash = account[_POSITION], account[_CASH]
    quantity = held
    if reverse:
        quantity = _add(held, _add(_add(cash, held * price * (1 - fee)), -fixed) / (price * (1 + fee)))
    sold, paid, account[_CASH] = _sell(cash, quantity, price, fee, fixed)
    if sold > 0:
        _close(account, held, price, paid, sold, log)


@njit(cache=True, nogil=True)
def _buy_back(account: np.ndarray, price: float, reverse: bool, fee: float, fixed: float, log: np.ndarray) -> None:
    """Cover a short position, as far as the cash goes; on a reversal the same order spends all of it."""
    held = -account[_POSITION]
    bought, paid, account[_CASH] = _buy(account[_CASH], np.inf if reverse else held, price, fee, fixed)
    if bought > 0:
        _close(account, min(held, bought), price, paid, bought, log)


@njit(cache=True, nogil=True)
def _open(account: np.ndarray, view: int, price: float, size: float, fee: float, fixed: float) -> None:
    """Enter with a share of the cash: buy, or sell short what it would buy."""
    cash = account[_CASH]
    if view > 0:
        spent = min(cash, size * cash)
        account[_POSITION], account[_PAID], left = _buy(spent, np.inf, price, fee, fixed)
        account[_CASH] = _add(cash, -spent) + left
    else:
        quantity = size * (_add(cash, -fixed) / (price * (1 + fee)))
        sold, account[_PAID], account[_CASH] = _sell(cash, quantity, price, fee, fixed)
        account[_POSITION] = -sold
    account[_ENTRY], account[_SINCE] = price, account[_NOW]


@njit(cache=True, nogil=True)
def _fill(
    account: np.ndarray, view: int, opened: float, slippage: float, size: float, rules: np.ndarray, log: np.ndarray
) -> None:
    """Act on a view at the open: 1 bullish, -1 bearish, 0 the end of the run."""
    fee, fixed, position = rules[_FEE], rules[_FIXED], account[_POSITION]
    up, down = opened * (1 + slippage), opened * (1 - slippage)
    if position > 0:
        if view <= 0:
            _sell_out(account, down, view < 0 and rules[_SHORT] > 0, fee, fixed, log)
    elif position < 0:
        if view >= 0:
            _buy_back(account, up, view > 0 and rules[_LONG] > 0, fee, fixed, log)
    elif view > 0 and rules[_LONG] > 0:
        _open(account, view, up, size, fee, fixed)
    elif view < 0 and rules[_SHORT] > 0:
        _open(account, view, down, size, fee, fixed)


@njit(cache=True, nogil=True)
def _stop_level(side: float, entry: float, rules: np.ndarray, opened: float, high: float, low: float) -> float:
    """Return where a stop or take-profit fills on this bar, NaN where it does not; see `Costs.stop_loss`."""
    for fraction in (-rules[_STOP], rules[_PROFIT]):
        level = entry * (1 + side * fraction)
        toward = side if fraction > 0 else -side
        if toward * opened >= toward * level:
            return opened
        if low <= level <= high:
            return level
    return np.nan


@njit(cache=True, nogil=True)
def _check_stop(
    account: np.ndarray, bars: np.ndarray, t: int, slippage: float, rules: np.ndarray, log: np.ndarray
) -> None:
    """Close the position where bar t reaches its stop or take-profit."""
    side = 1.0 if account[_POSITION] > 0 else -1.0
    level = _stop_level(side, account[_ENTRY], rules, bars[OPEN, t], bars[HIGH, t], bars[LOW, t])
    if np.isnan(level):
        return
    if side > 0:
        _sell_out(account, level * (1 - slippage), False, rules[_FEE], rules[_FIXED], log)
    else:
        _buy_back(account, level * (1 + slippage), False, rules[_FEE], rules[_FIXED], log)


@njit(cache=True, nogil=True)
def _mark(account: np.ndarray, curve: np.ndarray, closes: np.ndarray, first: int, stop: int) -> None:
    """Value the account at the closes ``[first, stop)`` and fold the returns into `curve`. The hot loop."""
    cash, position = account[_CASH], account[_POSITION]
    value, growth, peak, trough = curve[_VALUE], curve[_GROWTH], curve[_PEAK], curve[_TROUGH]
    worst, total, squares = curve[_WORST], curve[_TOTAL], curve[_SQUARES]
    for t in range(first, stop if position != 0 else min(stop, first + 1)):
        now = cash + position * closes[t]
        change = (now - value) / abs(value) if value != 0 else (0.0 if now == 0 else np.inf)
        value = now
        total += change
        squares += change * change
        growth *= 1 + change
        if growth > peak:
            worst = min(worst, trough / peak - 1)
            peak = trough = growth
        elif growth < trough:
            trough = growth
    curve[_VALUE], curve[_GROWTH], curve[_PEAK], curve[_TROUGH] = value, growth, peak, trough
    curve[_WORST], curve[_TOTAL], curve[_SQUARES] = worst, total, squares


@njit(cache=True, nogil=True)
def _walk(
    events: np.ndarray,
    views: np.ndarray,
    bars: np.ndarray,
    tradable: np.ndarray,
    slippage: np.ndarray,
    sizes: np.ndarray,
    rules: np.ndarray,
    start: int,
    stop: int,
    account: np.ndarray,
    curve: np.ndarray,
    log: np.ndarray,
) -> None:
    """Go from event to event over bars ``[start, stop)``; without stops nothing in between needs a look."""
    closes, stops = bars[CLOSE], not (np.isnan(rules[_STOP]) and np.isnan(rules[_PROFIT]))
    last = stop - 1
    while last > start and not tradable[last]:
        last -= 1
    t, k = start + 1, np.searchsorted(events, start + 1)
    while t <= last:
        event = min(events[k], last) if k < events.size else last
        if stops and account[_POSITION] != 0 and t < event:
            account[_NOW] = t
            if tradable[t]:
                _check_stop(account, bars, t, slippage[t], rules, log)
            _mark(account, curve, closes, t, t + 1)
            t += 1
            continue
        _mark(account, curve, closes, t, event)
        account[_NOW] = event
        view = views[event] if event < last else 0
        _fill(account, view, bars[OPEN, event], slippage[event], sizes[event], rules, log)
        if stops and account[_POSITION] != 0:
            _check_stop(account, bars, event, slippage[event], rules, log)
        _mark(account, curve, closes, event, event + 1)
        t, k = event + 1, k + 1
    _mark(account, curve, closes, t, stop)
    account[_NOW] = stop - 1


@njit(cache=True, nogil=True)
def _summarise(
    account: np.ndarray, curve: np.ndarray, price: float, cash: float, count: int, out: np.ndarray, log: np.ndarray
) -> None:
    """Write the figures; a position nobody could close counts as a trade at the last close, as in VectorBT."""
    if account[_POSITION] != 0:
        _close(account, abs(account[_POSITION]), price, 0.0, abs(account[_POSITION]), log)
    total, squares = curve[_TOTAL], curve[_SQUARES]
    variance = (squares - total * total / count) / (count - 1)
    out[0] = curve[_VALUE] / cash - 1
    out[1] = total / count / np.sqrt(variance) if variance > 0 else np.nan
    out[2] = min(curve[_WORST], curve[_TROUGH] / curve[_PEAK] - 1)
    out[3] = account[_TRADES]
    out[4] = account[_WINS] / account[_TRADES] if account[_TRADES] > 0 else np.nan
    out[5], out[6] = total, squares


@njit(cache=True, nogil=True)
def _find_events(
    entries: np.ndarray, exits: np.ndarray, tradable: np.ndarray, views: np.ndarray, events: np.ndarray
) -> int:
    """Write the view each bar's open is filled on, and the bars that have one; return how many."""
    count = 0
    for t in range(1, entries.size):
        view = (np.int8(entries[t - 1]) - np.int8(exits[t - 1])) * np.int8(tradable[t])
        views[t] = view
        events[count] = t
        count += view != 0
    return count


@njit([_BATCH_SIGNATURE], cache=True, nogil=True)
def _run_batch(
    signal: Callable,
    bars: np.ndarray,
    rows: np.ndarray,
    use: np.ndarray,
    vectors: np.ndarray,
    tradable: np.ndarray,
    slippage: np.ndarray,
    sizes: np.ndarray,
    rules: np.ndarray,
    segments: np.ndarray,
    first: int,
    stop: int,
    out: np.ndarray,
    log: np.ndarray,
) -> None:
    """Trade the sets ``[first, stop)``; every buffer is one bar row long, whatever the number of sets."""
    size = bars.shape[1]
    entries, exits, views = np.empty(size, np.bool_), np.empty(size, np.bool_), np.zeros(size, np.int8)
    events, account, curve = np.empty(size, np.int64), np.empty(8), np.empty(7)
    for k in range(first, stop):
        signal(bars, rows, use[k], vectors[k], entries, exits)
        count = _find_events(entries, exits, tradable, views, events)
        for s in range(segments.shape[0]):
            start, end = segments[s, 0], segments[s, 1]
            account[:], curve[:] = 0.0, 0.0
            account[_CASH] = curve[_VALUE] = rules[_INITIAL]
            curve[_GROWTH] = curve[_PEAK] = curve[_TROUGH] = 1.0
            _walk(events[:count], views, bars, tradable, slippage, sizes, rules, start, end, account, curve, log)
            _summarise(account, curve, bars[CLOSE, end - 1], rules[_INITIAL], end - start, out[k, s], log)


def rules_of(costs: Costs) -> np.ndarray:
    """Return costs and sides as the vector the simulator reads."""
    return np.array(
        [
            costs.fee_bps / 1e4,
            costs.fixed_fee,
            costs.initial_cash,
            costs.direction in ("long", "both"),
            costs.direction in ("short", "both"),
            np.nan if costs.stop_loss is None else costs.stop_loss,
            np.nan if costs.take_profit is None else costs.take_profit,
        ],
        dtype=np.float64,
    )


def run_sets(
    signal: Callable[..., None],
    bars: SweepBars,
    rows: np.ndarray,
    use: np.ndarray,
    vectors: np.ndarray,
    costs: Costs,
    segments: np.ndarray,
    *,
    threads: int | None = None,
) -> np.ndarray:
    """Trade every parameter set over every segment.

    Args:
        signal: The strategy's compiled signal function.
        bars: The sample.
        rows: Shared indicators, (indicators, bars).
        use: Which of them each set reads, (sets, indicators a set) int64.
        vectors: Parameters, (sets, parameters) float64.
        costs: What trading costs.
        segments: Row ranges ``[start, stop)``, (segments, 2) int64; each starts and ends flat.
        threads: None for one a core. The result does not depend on it.

    Returns:
        (sets, segments, `WIDTH`) float64; the Sharpe ratio annualised.
    """
    out, no_log = np.empty((len(use), len(segments), WIDTH)), np.empty((0, LOG_WIDTH))
    market = (bars.tradable, bars.slippage(costs), bars.sizes(costs), rules_of(costs))

    def batch(first: int) -> None:
        stop = min(first + _BATCH, len(use))
        _run_batch(signal, bars.matrix, rows, use, vectors, *market, segments, first, stop, out, no_log)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        list(pool.map(batch, range(0, len(use), _BATCH)))
    out[:, :, 1] *= np.sqrt(bars.periods_per_year)
    return out


def trade_set(
    signal: Callable[..., None],
    bars: SweepBars,
    rows: np.ndarray,
    use: np.ndarray,
    vector: np.ndarray,
    costs: Costs,
    segment: slice,
) -> np.ndarray:
    """Return every trade of one parameter set, (trades, `LOG_WIDTH`): the first answer to "where do they differ".

    Columns: entry bar, exit bar, side (1 long, -1 short), quantity, entry price, exit price, fees, profit; bars count
    from the start of `segment`.
    """
    out, log = np.empty((1, 1, WIDTH)), np.empty((len(bars), LOG_WIDTH))
    span = np.array([[segment.start, segment.stop]])
    market = (bars.tradable, bars.slippage(costs), bars.sizes(costs), rules_of(costs))
    _run_batch(signal, bars.matrix, rows, use[None, :], vector[None, :], *market, span, 0, 1, out, log)
    trades = log[: int(out[0, 0, 3])].copy()
    trades[:, :2] -= segment.start
    return trades

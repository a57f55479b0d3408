"""The compiled loops of the fused engine: signals to trades to figures, one row of bars at a time.

Orders, fees, trades and figures follow VectorBT's arithmetic operation by operation, ties of rounding included
(`_add`, `_close_to` are its rules), because `tasks.sweep.certify` compares the two to 1e-9. All of it is one file:
Numba's cache is keyed by the file of the caller, and would serve stale code if a callee in another file changed.

There are two walks. `_walk` goes from signal to signal and knows whole orders at the open, which is all that most runs
need. `_walk_orders` looks at every bar on which something may happen: stops, capped volume, orders worked over bars.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import boolean, float64, int64, njit, types

from tasks.strategies.strategy import CLOSE, HIGH, LOW, OPEN, SIGNATURE
from tasks.sweep.engine.state import Account, Curve, Market, Rules

#: Most slippage, a share of a price; smaller quantities than `_DUST` are none, as in VectorBT; as `metrics.RUIN`.
_MOST_SLIPPAGE, _DUST, _RUIN = 0.5, 1e-12, -1 + 1e-9

_rows = types.Array(float64, 2, "C")
_flags = types.Array(boolean, 1, "C")
_vector = types.Array(float64, 1, "C")
_pairs = types.Array(int64, 2, "C")
_market = types.NamedTuple((_rows, _flags, _vector, _vector, _vector), Market)
_rules = types.NamedUniTuple(float64, len(Rules._fields), Rules)
_BATCH_SIGNATURE = types.void(
    types.FunctionType(SIGNATURE),
    *(_rows, _pairs, _rows, _market, _rules, _pairs, int64, int64, types.Array(float64, 3, "C"), _rows),
)

_loop = njit(cache=True, nogil=True, error_model="numpy")


@_loop
def _begin(cash: float) -> tuple[Account, Curve]:
    return Account(cash, 0.0, 0.0, 0.0, 0, 0, 0), Curve(cash, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0)


@_loop
def _close_to(a: float, b: float) -> bool:
    return a == b or abs(a - b) <= max(1e-9 * max(abs(a), abs(b)), 1e-12)


@_loop
def _add(a: float, b: float) -> float:
    if (a < 0) != (b < 0) and _close_to(abs(a), abs(b)):
        return 0.0
    return a + b


@_loop
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


@_loop
def _sell(cash: float, quantity: float, price: float, fee: float, fixed: float) -> tuple[float, float, float]:
    """Sell `quantity`; return it (0 where the fees exceed the proceeds), fees paid and cash left."""
    proceeds = quantity * price
    paid = proceeds * fee + fixed
    gained = _add(proceeds, -paid)
    if quantity <= 0 or _close_to(quantity, 0.0) or gained < 0:
        return 0.0, 0.0, cash
    return quantity, paid, cash + gained


@_loop
def _close(
    account: Account, cash: float, quantity: float, price: float, fees: float, sold: float, now: int, log: np.ndarray
) -> Account:
    """Book the closing of `quantity` by an order that moved `sold` in all and cost `fees`; its fees are shared out."""
    side, held = (1.0 if account.position > 0 else -1.0), abs(account.position)
    entry_fees, exit_fees = account.paid * quantity / held, quantity / sold * fees
    moved = _add(quantity * price, -(quantity * (held * account.entry / held)))
    profit = side * moved - entry_fees - exit_fees
    if account.trades < log.shape[0]:
        row = log[account.trades]
        row[0], row[1], row[2], row[3] = account.since, now, side, quantity
        row[4], row[5], row[6], row[7] = account.entry, price, entry_fees + exit_fees, profit
    trades, wins = account.trades + 1, account.wins + (profit > 0)
    position = _add(account.position, -side * sold)
    if position * side < 0:  # the order went on to the other side
        return Account(cash, position, price, fees - exit_fees, now, trades, wins)
    return Account(cash, position, account.entry, account.paid - entry_fees, account.since, trades, wins)


@_loop
def _sell_out(
    account: Account, price: float, reverse: bool, fee: float, fixed: float, now: int, log: np.ndarray
) -> Account:
    """Close a long position; on a reversal the same order sells short what the proceeds would buy."""
    held, cash = account.position, account.cash
    quantity = held
    if reverse:
        quantity = _add(held, _add(_add(cash, held * price * (1 - fee)), -fixed) / (price * (1 + fee)))
    sold, paid, cash = _sell(cash, quantity, price, fee, fixed)
    return _close(account, cash, held, price, paid, sold, now, log) if sold > 0 else account


@_loop
def _buy_back(
    account: Account, price: float, reverse: bool, fee: float, fixed: float, now: int, log: np.ndarray
) -> Account:
    """Cover a short position, as far as the cash goes; on a reversal the same order spends all of it."""
    held = -account.position
    bought, paid, cash = _buy(account.cash, np.inf if reverse else held, price, fee, fixed)
    return _close(account, cash, min(held, bought), price, paid, bought, now, log) if bought > 0 else account


@_loop
def _open(account: Account, side: float, price: float, size: float, fee: float, fixed: float, now: int) -> Account:
    """Enter with a share of the cash: buy, or sell short what it would buy."""
    cash = account.cash
    if side > 0:
        spent = min(cash, size * cash)
        quantity, paid, left = _buy(spent, np.inf, price, fee, fixed)
        cash = _add(cash, -spent) + left
    else:
        quantity = size * (_add(cash, -fixed) / (price * (1 + fee)))
        quantity, paid, cash = _sell(cash, quantity, price, fee, fixed)
    return Account(cash, side * quantity, price, paid, now, account.trades, account.wins)


@_loop
def _mark(curve: Curve, cash: float, position: float, closes: np.ndarray, first: int, stop: int) -> Curve:
    """Value the account at the closes ``[first, stop)`` and fold the returns into `curve`. The hot loop."""
    value, growth, peak, trough, worst, total, squares = curve
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
    return Curve(value, growth, peak, trough, worst, total, squares)


@_loop
def _walk(
    events: np.ndarray,
    views: np.ndarray,
    market: Market,
    rules: Rules,
    start: int,
    last: int,
    stop: int,
    log: np.ndarray,
) -> tuple[Account, Curve]:
    """Go from signal to signal over bars ``[start, stop)``, with a flat account from `last` on."""
    (bars, _, _, slippage, sizes), fee, fixed = market, rules.fee, rules.fixed
    opens, closes = bars[OPEN], bars[CLOSE]
    longs, shorts = rules.long > 0, rules.short > 0
    account, curve = _begin(rules.initial)
    t = start + 1
    for k in range(np.searchsorted(events, t), events.size + 1):
        now = min(events[k], last) if k < events.size else last
        if now < t:
            break
        view, position = (views[now] if now < last else 0), account.position
        if position * view > 0 or (position == 0 and not (longs if view > 0 else shorts and view < 0)):
            continue
        curve = _mark(curve, account.cash, position, closes, t, now)
        opened, slipped = opens[now], slippage[min(now, slippage.size - 1)]
        down, up = opened * (1 - slipped), opened * (1 + slipped)
        if position > 0:
            account = _sell_out(account, down, view < 0 and shorts, fee, fixed, now, log)
        elif position < 0:
            account = _buy_back(account, up, view > 0 and longs, fee, fixed, now, log)
        else:
            side, size = (1.0 if view > 0 else -1.0), sizes[min(now, sizes.size - 1)]
            account = _open(account, side, up if view > 0 else down, size, fee, fixed, now)
        t = now
        if now == last:
            break
    return account, _mark(curve, account.cash, account.position, closes, t, stop)


@_loop
def _afford(cash: float, rate: float, rules: Rules) -> float:
    """Return the value that `cash` can trade and still pay its commission."""
    value = _add(cash, -rules.fixed) / (1 + rate)
    return value if value * rate >= rules.minimum else cash - rules.fixed - rules.minimum


@_loop
def _plan(account: Account, left: float, side: int, opened: float, slipped: float, size: float, rules: Rules):
    """Return the signed quantity an order works for, so that the account ends on `side`; whole from the beginning.

    A view that is already heading there changes nothing; one that returns to what is still held ends the order.
    """
    position, cash, fee = account.position, account.cash, rules.fee
    if np.sign(position + left) == side:
        return left
    if side == 0 or side * position > 0:
        return -position if side == 0 else 0.0
    price = opened * (1 + side * slipped)
    if side > 0:
        wanted = _afford(cash if position < 0 else min(cash, size * cash), fee, rules) / price
    elif position > 0:
        short = _add(_add(cash, position * price * (1 - fee)), -rules.fixed) / (price * (1 + fee))
        if (position + short) * price * fee < rules.minimum:
            short = (cash + position * price - rules.fixed - rules.minimum) / price
        wanted = _add(position, short)
    else:
        wanted = size * (_afford(cash, fee, rules) / price)
    return side * max(0.0, min(wanted, rules.worth / price))


@_loop
def _book(
    account: Account, cash: float, side: float, filled: float, price: float, fees: float, now: int, log: np.ndarray
) -> Account:
    """Add a fill to the position it opens or makes larger, or close what it takes away."""
    position = account.position
    if position * side < 0:
        return _close(account, cash, min(abs(position), filled), price, fees, filled, now, log)
    held = abs(position)
    entry = (held * account.entry + filled * price) / (held + filled) if held > 0 else price
    paid, since = (account.paid + fees, account.since) if held > 0 else (fees, now)
    return Account(cash, _add(position, side * filled), entry, paid, since, account.trades, account.wins)


@_loop
def _work(
    account: Account,
    left: float,
    price: float,
    slipped: float,
    rests: bool,
    room: float,
    volume: float,
    rules: Rules,
    now: int,
    log: np.ndarray,
) -> tuple[Account, float, float]:
    """Fill what the bar's volume has room for; return what is left of the order, and of the room.

    Only what the volume cut off is left for later bars; what the cash does not pay for is given up.
    """
    side, quantity = (1.0 if left > 0 else -1.0), min(abs(left), room)
    if quantity <= _DUST:
        return account, left, room
    rate, slipped = (rules.maker, 0.0) if rests else (rules.fee, slipped)
    if rules.impact > 0 and not rests:
        slipped = min(slipped + rules.impact * (quantity / volume) ** 2, _MOST_SLIPPAGE)
    price *= 1 + side * slipped
    value = min(quantity * price, _afford(account.cash, rate, rules)) if side > 0 else quantity * price
    least = value * rate < rules.minimum
    fee, fixed = (0.0, rules.fixed + rules.minimum) if least else (rate, rules.fixed)
    if side > 0:
        filled, fees, cash = _buy(account.cash, quantity, price, fee, fixed)
    else:
        filled, fees, cash = _sell(account.cash, quantity, price, fee, fixed)
    kept = quantity < abs(left) and (side < 0 or filled == quantity)
    if filled > 0:
        account = _book(account, cash, side, filled, price, fees, now, log)
    return account, (_add(left, -side * filled) if kept else 0.0), room - filled


@_loop
def _stop_level(account: Account, opened: float, high: float, low: float, rules: Rules) -> tuple[float, bool]:
    """Return where a stop or take-profit fills on this bar (NaN: nowhere), and whether as a limit order at rest."""
    side = 1.0 if account.position > 0 else -1.0
    for fraction in (-rules.stop, rules.profit):
        level = account.entry * (1 + side * fraction)
        toward = side if fraction > 0 else -side
        if toward * opened >= toward * level:
            return opened, False
        if low <= level <= high:
            return level, fraction > 0 and not np.isnan(rules.maker)
    return np.nan, False


@_loop
def _walk_orders(
    events: np.ndarray,
    views: np.ndarray,
    market: Market,
    rules: Rules,
    start: int,
    last: int,
    stop: int,
    log: np.ndarray,
) -> tuple[Account, Curve]:
    """Do what `_walk` does with orders that take several bars, and look at stops on every bar that holds something."""
    bars, tradable, volumes, slippage, sizes = market
    stops = not (np.isnan(rules.stop) and np.isnan(rules.profit))
    account, curve = _begin(rules.initial)
    left, t, k = 0.0, start + 1, np.searchsorted(events, start + 1)
    while t <= last:
        while k < events.size and events[k] < t:
            k += 1
        resting = left == 0 and not (stops and account.position != 0)
        now = (min(events[k], last) if k < events.size else last) if resting else t
        curve = _mark(curve, account.cash, account.position, bars[CLOSE], t, now)
        if tradable[now]:
            opened, slipped = bars[OPEN, now], slippage[min(now, slippage.size - 1)]
            volume = volumes[now]
            room = np.inf if np.isinf(rules.share) else rules.share * volume
            if now == last:
                left = -account.position
            elif views[now] != 0:
                side = (rules.long > 0) * 1 if views[now] > 0 else (rules.short > 0) * -1
                left = _plan(account, left, side, opened, slipped, sizes[min(now, sizes.size - 1)], rules)
            if left != 0:
                told = (opened, slipped, False, room, volume, rules, now, log)
                account, left, room = _work(account, left, *told)
            if stops and account.position * (account.position + left) > 0:
                level, rests = _stop_level(account, opened, bars[HIGH, now], bars[LOW, now], rules)
                if not np.isnan(level):
                    told = (level, slipped, rests, room, volume, rules, now, log)
                    account, left, room = _work(account, -account.position, *told)
        curve = _mark(curve, account.cash, account.position, bars[CLOSE], now, now + 1)
        t = now + 1
    return account, _mark(curve, account.cash, account.position, bars[CLOSE], t, stop)


@_loop
def _summarise(
    account: Account, curve: Curve, price: float, cash: float, count: int, now: int, out: np.ndarray, log: np.ndarray
) -> None:
    """Write the figures; a position nobody could close counts as a trade at the last close, as in VectorBT."""
    if account.position != 0:
        held = abs(account.position)
        account = _close(account, account.cash, held, price, 0.0, held, now, log)
    total, squares = curve.total, curve.squares
    variance = (squares - total * total / count) / (count - 1)
    out[0] = curve.value / cash - 1
    lost = np.isnan(curve.growth)  # an account that was at exactly nothing and then owed: no drawdown is defined
    out[2] = np.nan if lost else min(curve.worst, curve.trough / curve.peak - 1)
    out[1] = total / count / np.sqrt(variance) if variance > 0 and out[2] > _RUIN else np.nan
    out[3] = account.trades
    out[4] = account.wins / account.trades if account.trades > 0 else np.nan
    out[5], out[6] = total, squares


@_loop
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
def run_batch(
    signal: Callable,
    rows: np.ndarray,
    use: np.ndarray,
    vectors: np.ndarray,
    market: Market,
    rules: Rules,
    segments: np.ndarray,
    first: int,
    stop: int,
    out: np.ndarray,
    log: np.ndarray,
) -> None:
    """Trade the sets ``[first, stop)``; every buffer is one bar row long, whatever the number of sets."""
    bars, tradable = market.bars, market.tradable
    size = bars.shape[1]
    entries, exits, views = np.empty(size, np.bool_), np.empty(size, np.bool_), np.zeros(size, np.int8)
    events = np.empty(size, np.int64)
    for k in range(first, stop):
        signal(bars, rows, use[k], vectors[k], entries, exits)
        count = _find_events(entries, exits, tradable, views, events)
        for s in range(segments.shape[0]):
            start, end = segments[s, 0], segments[s, 1]
            last = end - 1
            while last > start and not tradable[last]:
                last -= 1
            if rules.worked > 0:
                account, curve = _walk_orders(events[:count], views, market, rules, start, last, end, log)
            else:
                account, curve = _walk(events[:count], views, market, rules, start, last, end, log)
            _summarise(account, curve, bars[CLOSE, end - 1], rules.initial, end - start, end - 1, out[k, s], log)

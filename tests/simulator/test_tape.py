"""Trades make exactly their bar, and books stand around the trades."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from tasks.simulator.market import Market, replay
from tasks.simulator.tape import Tape, decimal_text
from tests.simulator.conftest import START


@pytest.mark.parametrize(
    ("units", "decimals", "text"),
    [(0, 2, "0"), (150, 2, "1.5"), (5, 3, "0.005"), (-25, 1, "-2.5"), (42, 0, "42"), (1200, 2, "12")],
)
def test_units_are_written_as_plain_decimals(units: int, decimals: int, text: str) -> None:
    """No exponent, no trailing zero."""
    assert decimal_text(units, decimals) == text


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ACME.US", "BU2609"])
def test_trades_aggregate_to_their_bar(small_market: Market, symbol: str) -> None:
    """First, highest, lowest, last price and the summed quantity are the bar's, for every bar."""
    item = small_market.find(symbol)
    tape = Tape(item, small_market.series(item), seed=0)
    for index in range(0, len(tape.bars), 7):
        bar, truth = tape.bar(index), tape.bars.frame.row(index, named=True)
        scale = 10**item.price_decimals
        seen = [bar.prices[0], bar.prices.max(), bar.prices.min(), bar.prices[-1]]
        assert [price / scale for price in seen] == [truth[name] for name in ("open", "high", "low", "close")]
        assert bar.quantities.sum() == round(truth["volume"] * 10**bar.lot_decimals)
        assert bar.quantities.min() > 0
        assert np.all(np.diff(bar.times) >= 0)
        assert truth["time"] <= bar.times[0] <= bar.times[-1] < truth["time"] + 60_000


def test_books_are_never_crossed_and_hold_the_last_trade(small_market: Market) -> None:
    """Best bid < best ask in every book, and the last trade's price is one of the two."""
    item = small_market.find("BTCUSDT")
    tape = Tape(item, small_market.series(item), seed=0)
    for index in range(0, 200, 20):
        bar = tape.bar(index)
        assert np.all(bar.bid_prices[:, 0] < bar.ask_prices[:, 0])
        assert np.all(np.diff(bar.bid_prices, axis=1) <= 0)
        assert np.all(np.diff(bar.ask_prices, axis=1) > 0)
        last = np.searchsorted(bar.times, bar.book_times, side="right") - 1
        for row in np.flatnonzero(last >= 0):
            assert bar.prices[last[row]] in (bar.bid_prices[row, 0], bar.ask_prices[row, 0])


def test_the_pressure_at_the_best_level_crosses_the_usual_alarms(small_market: Market) -> None:
    """Bid over ask size goes above 2.5 and below 0.4 now and then, and mostly lies between."""
    item = small_market.find("BTCUSDT")
    tape = Tape(item, small_market.series(item), seed=0)
    ratios = np.concatenate([(bar.bid_sizes[:, 0] / bar.ask_sizes[:, 0]) for bar in map(tape.bar, range(20))])
    assert 0.02 < (ratios > 2.5).mean() < 0.45
    assert 0.02 < (ratios < 0.4).mean() < 0.45


def test_a_bar_of_few_or_no_lots_still_adds_up(tmp_path: Path) -> None:
    """Three shares are cut finer than a share; no volume means no trade."""
    path = tmp_path / "bars.csv"
    path.write_text(
        "timestamp,open,high,low,close,volume\n2025-03-03T00:00:00,10,12,9,11,3\n2025-03-03T00:01:00,11,11,11,11,0\n"
    )
    market = replay({"X": path}, interval="1m")
    tape = Tape(market.instruments[0], market.series(market.instruments[0]), seed=0)
    few, none = tape.bar(0), tape.bar(1)
    assert few.quantities.sum() / 10**few.lot_decimals == 3
    assert sorted({few.prices.max(), few.prices.min(), few.prices[0], few.prices[-1]}) == [9, 10, 11, 12]
    assert len(none.times) == 0
    assert np.all(none.bid_prices[:, 0] < none.ask_prices[:, 0])


def test_the_index_of_an_instant_is_the_bar_that_holds_it(small_market: Market) -> None:
    """Before the first bar there is none."""
    item = small_market.find("BTCUSDT")
    tape = Tape(item, small_market.series(item), seed=0)
    at = lambda delta: int((START + delta).timestamp() * 1000)  # noqa: E731
    assert tape.index_at(at(timedelta(seconds=-1))) == -1
    assert tape.index_at(at(timedelta(seconds=59))) == 0
    assert tape.index_at(at(timedelta(seconds=60))) == 1

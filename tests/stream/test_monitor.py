"""One episode of pressure is one alert, and a bad book is silent."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import InputError
from tasks.stream.book import Book, BookPolicy, Quote
from tasks.stream.messages import Depth
from tasks.stream.monitor import Alert, EpisodeEnded, MonitorPolicy, PressureMonitor


def quote(ratio: float, at: float = 0.0, *, crossed: bool = False) -> Quote:
    """Return the quote of a book with that pressure ratio."""
    book = Book("A", BookPolicy(warm_up=1))
    book.apply(Depth("A", [(100.0, ratio)], [(99.0 if crossed else 100.5, 1.0)], int(at * 1000)), at)
    return book.quote(at)


def run(ratios: list[float | None], step_s: float = 0.5) -> list[Alert | EpisodeEnded]:
    """Feed ratios, one each step (None: a crossed book), and return what the monitor told."""
    monitor = PressureMonitor("A", MonitorPolicy())
    told = []
    for number, ratio in enumerate(ratios):
        now = number * step_s
        given_quote = quote(1.0, now, crossed=True) if ratio is None else quote(ratio, now)
        told.append(monitor.observe(given_quote, now))
    return [one for one in told if one is not None]


def test_alert_after_the_dwell() -> None:
    """Beyond the threshold for a second is an alert; for less it is not."""
    assert run([3.0, 3.0, 1.0]) == []
    (alert,) = run([1.0, 3.0, 3.0, 3.0])
    assert isinstance(alert, Alert)
    assert (alert.pressure, alert.threshold, alert.at) == ("buy", 2.5, 1.5)
    assert alert.episode == "A:buy:500"


def test_sell_pressure_alerts_below() -> None:
    """A ratio under 0.4 is sell pressure."""
    (alert,) = run([0.3, 0.3, 0.3])
    assert isinstance(alert, Alert)
    assert alert.pressure == "sell"


def test_hovering_at_the_threshold_is_one_episode() -> None:
    """Crossing back and forth between alert and re-arm level tells nothing more."""
    told = run([3.0] * 3 + [2.4, 2.6] * 50)
    assert len(told) == 1


def test_inside_the_rearm_level_ends_the_episode() -> None:
    """Back inside, the episode ends, and the next one alerts again."""
    told = run([3.0] * 3 + [2.2] + [3.0] * 3)
    assert [type(one) for one in told] == [Alert, EpisodeEnded, Alert]


def test_an_invalid_book_neither_begins_nor_ends() -> None:
    """A crossed book resets the dwell, and an episode goes on through it without a second alert."""
    assert run([3.0, 3.0, None, 3.0, 3.0]) == []
    told = run([3.0] * 3 + [None] * 10 + [3.0] * 5 + [1.0])
    assert [type(one) for one in told] == [Alert, EpisodeEnded]


def test_from_buy_to_sell_is_two_episodes() -> None:
    """A swing from one side to the other ends one episode and begins another after its own dwell."""
    told = run([3.0] * 3 + [0.3] * 4)
    assert [type(one) for one in told] == [Alert, EpisodeEnded, Alert]


@given(st.lists(st.one_of(st.none(), st.floats(0.05, 20.0)), max_size=80))
def test_alerts_and_ends_alternate(ratios: list[float | None]) -> None:
    """Whatever the book does, every episode is told once and ended at most once, in turn."""
    told = run(ratios)
    assert all(isinstance(one, Alert if number % 2 == 0 else EpisodeEnded) for number, one in enumerate(told))
    assert len({one.episode for one in told if isinstance(one, Alert)}) == sum(isinstance(one, Alert) for one in told)


def test_no_alert_from_an_invalid_book() -> None:
    """Ten thousand invalid quotes of any ratio tell nothing."""
    rng = Random(5)
    monitor = PressureMonitor("A", MonitorPolicy(dwell_s=0.0))
    assert all(
        monitor.observe(quote(rng.uniform(0.01, 50.0), float(at), crossed=True), float(at)) is None
        for at in range(10_000)
    )


def test_thresholds_out_of_order_are_refused() -> None:
    """A re-arm level beyond its threshold would alert at every message."""
    with pytest.raises(InputError, match="expected 0 < sell_below"):
        MonitorPolicy(rearm_buy=2.6)

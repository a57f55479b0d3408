"""Bars go up and down the storage ladder, file, lake, Redis, and come back bit by bit."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import redis

from lake.hot import key_of, read_hot, write_hot
from lake.ladder import export_to, import_from, rung_of
from lake.store import Lake
from tasks.errors import InputError, TransientError

START = datetime(2024, 1, 1, tzinfo=UTC)
Maker = Callable[..., pl.DataFrame]


@pytest.fixture
def bars(lake: Lake, make_bars: Maker) -> pl.DataFrame:
    """Write a hundred minutes of A into the lake."""
    made = make_bars(100, START)
    lake.write_bars(made, symbol="A", interval="1m", start=START, end=START + timedelta(days=1))
    return made


@pytest.mark.parametrize("rung", ["file", "lake", "redis"])
def test_out_and_in_again(lake: Lake, bars: pl.DataFrame, tmp_path: Path, redis_url: str, rung: str) -> None:
    """What is exported to any rung is imported from it bit by bit, and importing it again changes nothing."""
    (tmp_path / "other").mkdir()
    place = {"file": str(tmp_path / "a.parquet"), "lake": str(tmp_path / "other"), "redis": redis_url}[rung]
    assert rung_of(place) == rung
    assert export_to(lake, place, symbol="A", interval="1m") == 100
    (tmp_path / "third").mkdir()
    fresh = Lake(str(tmp_path / "third"))
    assert import_from(fresh, place, symbol="A", interval="1m").rows_new == 100
    assert fresh.read_bars("A", "1m").equals(bars)
    assert not import_from(fresh, place, symbol="A", interval="1m").changed


def test_redis_is_given_few(lake: Lake, bars: pl.DataFrame, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hot copy holds the newest bars only, and is replaced whole by the next export."""
    monkeypatch.setattr("lake.ladder.HOT_BARS", 30)
    assert export_to(lake, redis_url, symbol="A", interval="1m") == 30
    assert read_hot(redis_url, symbol="A", interval="1m").equals(bars.tail(30))
    assert export_to(lake, redis_url, symbol="A", interval="1m", newest=5) == 5
    assert read_hot(redis_url, symbol="A", interval="1m").equals(bars.tail(5))


def test_a_file_of_the_newest_bars(lake: Lake, bars: pl.DataFrame, tmp_path: Path) -> None:
    """A file can be given the newest bars only."""
    assert export_to(lake, str(tmp_path / "a.parquet"), symbol="A", interval="1m", newest=7) == 7
    assert pl.read_parquet(tmp_path / "a.parquet").equals(bars.tail(7))


@pytest.mark.parametrize("newest", [0, -1])
def test_no_newest_bars_are_not_all(lake: Lake, bars: pl.DataFrame, tmp_path: Path, newest: int) -> None:
    """Whoever asks for none of the newest bars, or for fewer, made a slip."""
    with pytest.raises(InputError, match=f"newest: expected 1 or more, found {newest}"):
        export_to(lake, str(tmp_path / "a.csv"), symbol="A", interval="1m", newest=newest)


@pytest.mark.parametrize("place", ["prices.xlsx", "nowhere", ""])
def test_a_place_of_no_known_form_is_refused(lake: Lake, place: str) -> None:
    """A misspelled place never becomes a new lake: the message names the forms there are."""
    with pytest.raises(InputError, match=r"\.csv or \.parquet, redis"):
        export_to(lake, place, symbol="A", interval="1m")


def test_what_is_not_there_is_said(lake: Lake, redis_url: str, tmp_path: Path) -> None:
    """No bars in Redis, something else under their key, and no bars in the lake are each told from the others."""
    with pytest.raises(InputError, match="found nothing"):
        import_from(lake, redis_url, symbol="A", interval="1m")
    with redis.Redis.from_url(redis_url) as client:
        client.set(key_of("A", "1m"), b"\xff\x00 not arrow")
    with pytest.raises(InputError, match="Arrow stream"):
        import_from(lake, redis_url, symbol="A", interval="1m")
    with pytest.raises(InputError, match="found none"):
        export_to(lake, str(tmp_path), symbol="A", interval="1m")


def test_no_error_holds_the_password(bars: pl.DataFrame) -> None:
    """Redis that is away is a transient error, and the address with its password is not in it."""
    with pytest.raises(TransientError) as caught:
        write_hot("redis://:canary@127.0.0.1:1/0", bars, symbol="A", interval="1m")
    assert "canary" not in repr(caught.value)


@pytest.mark.parametrize("place", ["redis://:canary/1@127.0.0.1:1/0", "redis://127.0.0.1:canary/0"])
def test_an_address_of_redis_that_is_none_is_told_without_it(bars: pl.DataFrame, place: str) -> None:
    """A password with a slash in it reads as a port; the error says what to do and does not quote it."""
    with pytest.raises(InputError, match=r"redis: expected an address like redis://:password@host:6379/0") as caught:
        write_hot(place, bars, symbol="A", interval="1m")
    assert "canary" not in "".join(traceback.format_exception(caught.value))

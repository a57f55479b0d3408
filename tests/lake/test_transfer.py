"""Files come in only when it is plain what their columns mean."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.store import Lake
from lake.transfer import export_bars, import_bars, read_bars_file
from tasks.errors import DataError, InputError

START = datetime(2024, 1, 1, tzinfo=UTC)
Maker = Callable[..., pl.DataFrame]


@pytest.mark.parametrize("name", ["bars.csv", "bars.parquet"])
def test_out_and_in_again(lake: Lake, tmp_path: Path, make_bars: Maker, name: str) -> None:
    """Exported bars come back bit by bit, nulls included."""
    bars = make_bars(100, START)
    lake.write_bars(bars, symbol="A", interval="1m", start=START, end=START + timedelta(days=1))
    assert export_bars(lake, tmp_path / name, symbol="A", interval="1m") == 100
    receipt = import_bars(lake, tmp_path / name, symbol="B", interval="1m")
    assert receipt.rows_new == 100
    assert lake.read_bars("B", "1m").equals(bars)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]


@pytest.mark.parametrize("place", ["nowhere/bars.csv", "taken/bars.parquet", "folder.csv", "folder.parquet"])
def test_a_place_that_cannot_be_written_is_told(lake: Lake, tmp_path: Path, make_bars: Maker, place: str) -> None:
    """A folder that is not there, or is a file, or stands in the file's place: one line that names it, and no rest."""
    lake.write_bars(make_bars(100, START), symbol="A", interval="1m", start=START, end=START + timedelta(days=1))
    (tmp_path / "taken").touch()
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.parquet").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=f"export: expected a file that can be written at .*{place}, found: "):
        export_bars(lake, tmp_path / place, symbol="A", interval="1m")
    assert sorted(tmp_path.iterdir()) == before


def test_no_bars_are_no_file(lake: Lake, tmp_path: Path) -> None:
    """A symbol that the lake does not have is told, and what was exported before stays."""
    (tmp_path / "bars.csv").write_text("old")
    with pytest.raises(InputError, match="export: expected 1m bars of BTCUSD, found none"):
        export_bars(lake, tmp_path / "bars.csv", symbol="BTCUSD", interval="1m")
    assert (tmp_path / "bars.csv").read_text() == "old"


def test_other_names_are_refused_with_the_mapping(lake: Lake, tmp_path: Path) -> None:
    """A file with its own column names is refused; the message shows a mapping, and that mapping works."""
    path = tmp_path / "bars.csv"
    path.write_text("Date,O,H,L,Last,Vol\n2024-01-01T00:00:00Z,1,2,0.5,1.5,10\n")
    with pytest.raises(InputError) as refusal:
        import_bars(lake, path, symbol="A", interval="1d")
    mapping = {"timestamp": "Date", "open": "O", "high": "H", "low": "L", "close": "Last", "volume": "Vol"}
    assert f"columns={mapping}" in str(refusal.value)
    import_bars(lake, path, symbol="A", interval="1d", columns=mapping)
    assert lake.read_bars("A", "1d").rows() == [(START, 1.0, 2.0, 0.5, 1.5, 10.0, None)]


def test_a_column_nobody_knows_is_a_question(tmp_path: Path) -> None:
    """What cannot be suggested is shown as a question mark, and a mapping with unknown names is refused."""
    path = tmp_path / "bars.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"'close': '\?'"):
        read_bars_file(path)
    with pytest.raises(InputError, match="columns="):
        read_bars_file(path, columns={"closing": "a"})


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("1704067200", None),
        ("1704067200000", None),
        ("1704067200000000", None),
        ("2024-01-01 00:00:00", "UTC"),
        ("2023-12-31T19:00:00", "America/New_York"),
        ("2024-01-01T01:00:00+01:00", None),
        ("2024-01-01T00:00:00.000Z", None),
    ],
)
def test_times_of_any_plain_kind(tmp_path: Path, text: str, zone: str | None) -> None:
    """Epoch numbers by their size, and ISO text with a zone of its own or a given one, name the same instant."""
    path = tmp_path / "bars.csv"
    path.write_text(f"timestamp,open,high,low,close,volume\n{text},1,1,1,1,1\n")
    assert read_bars_file(path, time_zone=zone)["timestamp"].to_list() == [START]


def test_a_zone_without_a_name_is_none(tmp_path: Path) -> None:
    """An empty variable in somebody's script does not make local times UTC."""
    path = tmp_path / "bars.csv"
    path.write_text("timestamp,open,high,low,close,volume\n2024-01-01 00:00:00,1,1,1,1,1\n")
    with pytest.raises(InputError, match="time_zone"):
        read_bars_file(path, time_zone="")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """It is told as what it is, not as a damaged file."""
    (tmp_path / "bars.csv").mkdir()
    with pytest.raises(InputError, match=r"import: expected a file at .*, found a folder"):
        read_bars_file(tmp_path / "bars.csv")


@pytest.mark.parametrize(
    ("text", "message"), [("2024-01-01 00:00:00", "time_zone"), ("12345", "epoch"), ("soon", "ISO")]
)
def test_times_nobody_can_tell_are_refused(tmp_path: Path, text: str, message: str) -> None:
    """A time without a zone, or that is none, is refused with what to do."""
    path = tmp_path / "bars.csv"
    path.write_text(f"timestamp,open,high,low,close,volume\n{text},1,1,1,1,1\n")
    with pytest.raises(InputError, match=message):
        read_bars_file(path)


@pytest.mark.parametrize(
    ("text", "zone", "message"),
    [
        ("2024-11-03T01:30:00", "America/New_York", "ambiguous"),
        ("2024-03-10T02:30:00", "America/New_York", "non-existent"),
        ("2024-03-10T02:30:00", "Mars/Olympus", "unable to parse time zone"),
    ],
)
def test_times_that_a_zone_does_not_have_are_refused(tmp_path: Path, text: str, zone: str, message: str) -> None:
    """The hour that a zone has twice, or never, and a zone that nobody knows, are told and not guessed."""
    file = tmp_path / "bars.csv"
    file.write_text(f"timestamp,open,high,low,close,volume\n{text},1,1,1,1,1\n")
    with pytest.raises(InputError, match=f"(?s)import: expected times of the zone '{zone}'.*{message}"):
        read_bars_file(file, time_zone=zone)


def test_two_rows_that_differ_are_refused(lake: Lake, tmp_path: Path) -> None:
    """A row repeated word for word is one row; two that differ are for a person to settle."""
    path = tmp_path / "bars.csv"
    row = "2024-01-01T00:00:00Z,1,1,1,1,"
    path.write_text(f"timestamp,open,high,low,close,volume\n{row}1\n{row}1\n")
    assert import_bars(lake, path, symbol="A", interval="1d").rows_new == 1
    path.write_text(f"timestamp,open,high,low,close,volume\n{row}1\n{row}2\n")
    with pytest.raises(DataError, match="duplicates"):
        import_bars(lake, path, symbol="A", interval="1d")
    with pytest.raises(InputError, match="ending in"):
        read_bars_file(tmp_path / "bars.xlsx")

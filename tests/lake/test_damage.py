"""A damaged lake says what is damaged and how to go on, in one line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lake.__main__ import main
from lake.arrow import read_arrow
from lake.coverage import Ledger
from lake.cross_section import cross_section
from lake.maintenance import maintain
from lake.store import Lake
from tasks.errors import DataError

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
Maker = Callable[..., pl.DataFrame]


@pytest.fixture
def root(tmp_path: Path, make_bars: Maker) -> Path:
    """A lake with a file for each of two symbols of which the first is about to be damaged."""
    for symbol in ("AB/C", "DE"):
        bars = make_bars(60, START)
        Lake(tmp_path).write_bars(bars, symbol=symbol, interval="1m", start=START, end=START + HOUR)
    return tmp_path


def first_file(root: Path) -> Path:
    """Return the data file of the first symbol."""
    return next((root / "klines" / "1m" / "symbol=AB%2FC").rglob("*.parquet"))


@pytest.mark.parametrize("harm", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:-30])])
def test_a_damaged_file_is_named_with_its_cure(root: Path, make_bars: Maker, harm: Callable[[Path], None]) -> None:
    """Whoever reads or writes there is told the file; other symbols go on; mended, the bars are asked for again."""
    file = first_file(root)
    harm(file)
    bars = make_bars(60, START)
    for use in (
        lambda lake: lake.read_bars("AB/C", "1m"),
        lambda lake: read_arrow(lake, "AB/C", "1m"),
        lambda lake: lake.content_hash("1m", "AB/C"),
        lambda lake: cross_section(lake, "1m", "1h", [pl.len()]),
        lambda lake: lake.sql("SELECT count(*) FROM klines"),
        lambda lake: lake.write_bars(bars, symbol="AB/C", interval="1m", start=START, end=START + HOUR),
        lambda lake: Ledger(lake).absences("AB/C", "1m", START, START + HOUR),
    ):
        with pytest.raises(DataError, match=rf"1 gone or cut, such as .*{file.name}\. .*python -m lake --mend"):
            use(Lake(root))
    assert Lake(root).read_bars("DE", "1m").height == 60
    assert main(["--mend", "--root", str(root)]) == 0
    lake = Lake(root)
    assert Ledger(lake).absences("AB/C", "1m", START, START + HOUR)["reason"].to_list() == ["not_fetched"]
    assert lake.write_bars(bars, symbol="AB/C", interval="1m", start=START, end=START + HOUR).rows_new == 60
    maintain(lake)
    assert main(["--mend", "--root", str(root)]) == 0


def test_mending_tells_what_it_let_go(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It names each file; where nothing is damaged it says so and commits nothing."""
    version = Lake(root).bars_version("1m")
    assert main(["--mend", "--root", str(root)]) == 0
    assert capsys.readouterr().out == "nothing to mend\n"
    assert Lake(root).bars_version("1m") == version
    file = first_file(root)
    file.unlink()
    assert main(["--mend", "--root", str(root)]) == 0
    assert capsys.readouterr().out == f"klines/1m: let go of {file.relative_to(root / 'klines' / '1m')}\n"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{broken", "1m: expected a log that can be read, found: .*Json error"),
        ('{"protocol": {"minReaderVersion": 9, "minWriterVersion": 9}}', "reader version 9; .* the newer program"),
    ],
)
def test_a_log_nobody_can_read_is_one_line(root: Path, entry: str, said: str) -> None:
    """A damaged log, or one of a newer program, is told by its table and not in the library's own words alone."""
    (root / "klines" / "1m" / "_delta_log" / f"{3:020}.json").write_text(entry)
    with pytest.raises(DataError, match=said) as told:
        Lake(root).read_bars("DE", "1m")
    assert "\n" not in str(told.value)


def test_a_commit_that_tells_nothing_of_itself_has_its_files_time(root: Path) -> None:
    """Other programs may leave out when they committed; moments are found and the table is kept all the same."""
    (root / "klines" / "1m" / "_delta_log" / f"{3:020}.json").write_text("")
    lake = Lake(root)
    assert lake.read_bars("DE", "1m", as_of=datetime.now(UTC) + HOUR).height == 60
    maintain(lake)

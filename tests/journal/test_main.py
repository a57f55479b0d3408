"""The journal from a shell: whole or not, an order's story, every line as JSON."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tasks.journal.__main__ import main
from tasks.journal.entries import Entry, Kind
from tasks.journal.journal import Journal
from tests.journal.test_journal import a_life, path, request

__all__ = ["path"]


def test_verify_says_what_is_whole(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole journal is summed up, also while a process trades with it."""
    a_life(path)
    with Journal(path):
        assert main(["--journal", str(path), "verify"]) == 0
    said = capsys.readouterr().out
    assert "2 orders, 2 fills, 2 starts: whole" in said


def test_verify_names_the_first_bad_line(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed line is named, and the exit status says so."""
    a_life(path)
    database = sqlite3.connect(path)
    database.executescript("DROP TRIGGER journal_keeps_lines; UPDATE journal SET wall_ns = 1 WHERE seq = 4")
    database.close()
    assert main(["--journal", str(path), "verify"]) == 1
    assert "line 4 is not what was written" in capsys.readouterr().err


def test_explain_tells_the_whole_story(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Request, verdict, intent, acknowledgement and fill come with times, and where the order stands."""
    a_life(path)
    assert main(["--journal", str(path), "explain", request(1).client_order_id]) == 0
    said = capsys.readouterr().out
    steps = ["buy 10 BTCUSDT market", '"verdict":"pass"', "submitting", "accepted", "4 at 100, fee 0, trade t1"]
    assert [step for step in steps if step in said] == steps
    assert "stands     partially_filled" in said
    assert "filled     4 of 10 at 100 on average" in said


def test_explain_does_not_invent(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An id that nobody wrote down is an error, and so is a file that is not there."""
    a_life(path)
    assert main(["--journal", str(path), "explain", "kh" + "a" * 16]) == 1
    assert main(["--journal", str(path.with_name("none")), "verify"]) == 1
    assert "expected one on record" in capsys.readouterr().err


def test_export_prints_every_line(path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Every line comes out as JSON, in order."""
    a_life(path)
    assert main(["--journal", str(path), "export"]) == 0
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[0]["kind"] == "start"
    assert lines[1]["payload"]["symbol"] == "BTCUSDT"


def test_the_last_line_of_a_kind_is_found(path: Path) -> None:
    """What an operator said last is found after a restart; nothing is found where nothing was said."""
    with Journal(path) as journal:
        assert journal.last(Kind.OPERATOR) is None
        journal.commit_now([Entry(Kind.OPERATOR, body={"halt": "one"}), Entry(Kind.OPERATOR, body={"halt": "two"})])
    with Journal(path) as journal:
        line = journal.last(Kind.OPERATOR)
        assert line is not None
        assert line.body() == {"halt": "two"}

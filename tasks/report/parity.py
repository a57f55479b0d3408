"""Does live trade as research said: three paths over one period on one page, and why they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from tasks.report import words
from tasks.report.charts.parity import parity_figure
from tasks.report.document import document
from tasks.report.tables import Column, Table

#: Beyond these the table is cut and says so; those that follow from others are cut first.
MAX_DIFFERENCES = 400

_HEADS = (
    Column("No.", "Counts from 1, in the order of bars."),
    Column("Bar", "The bar that was decided on, named by its open.", numeric=False),
    Column("What", "The decision, the fill as a whole, or its bar, quantity, price or fee.", numeric=False),
    Column("Sweep", "What research has.", numeric=False),
    Column("Other path", "What the live replay, or VectorBT, has.", numeric=False),
    Column("Cause", "Why; 'follows' where it is only what an earlier difference led to.", numeric=False),
    Column("Evidence", "What on record proves the cause.", numeric=False),
)
_CAUSE_HEADS = (
    Column("Cause", numeric=False),
    Column("Differences", "That follow from no other."),
    Column("Led to", "Further differences that follow from these."),
)


def parity_page(run: Mapping[str, Any], paths: pl.DataFrame, differences: pl.DataFrame) -> str:
    """Return one self-contained page.

    Args:
        run: ``run_id``, ``symbol``, ``interval``, ``strategy``, ``params``, ``start``, ``end``, ``bars``,
            ``decisions``, ``decisions_equal``, ``fills``, ``fills_equal``, ``unexplained``, ``costs``, ``conditions``,
            ``lake_version`` and ``journal``.
        paths: Equity and position of each path, see `tasks.report.charts.parity.parity_figure`.
        differences: ``number``, ``timestamp``, ``path``, ``what``, ``expected``, ``found``, ``cause``, ``evidence``
            and ``follows``, in order.
    """
    return document(
        "parity.html.j2",
        {"paths": parity_figure(paths, differences)},
        run=run,
        equal=not differences.height,
        sentence=_sentence(run, differences),
        params=", ".join(f"{name} {value:g}" for name, value in run["params"].items()) or "its default parameters",
        causes=_causes(differences),
        table=_table(differences),
        record=[
            (name, _spelled(run[name]))
            for name in ("run_id", "start", "end", "bars", "lake_version", "costs", "conditions", "journal")
        ],
    )


def _sentence(run: Mapping[str, Any], differences: pl.DataFrame) -> str:
    counted = (
        f"{words.count(run['decisions_equal'])} of {words.count(run['decisions'])} decisions and "
        f"{words.count(run['fills_equal'])} of {words.count(run['fills'])} fills are equal on all three paths"
    )
    if not differences.height:
        return f"{counted}: live trades as research said."
    if run["unexplained"]:
        return f"{counted}; {words.count(run['unexplained'])} differences have no cause on record: do not trust this."
    return f"{counted}; every difference has a cause on record."


def _causes(differences: pl.DataFrame) -> Table:
    counted = (
        differences.group_by("cause", maintain_order=True)
        .agg(own=pl.col("follows").is_null().sum(), led=pl.col("follows").is_not_null().sum())
        .sort("own", descending=True)
    )
    rows = tuple((cause, words.count(own), words.count(led)) for cause, own, led in counted.rows())
    return Table(_CAUSE_HEADS, rows)


def _table(differences: pl.DataFrame) -> Table:
    shown = differences.sort(pl.col("follows").is_not_null(), "number").head(MAX_DIFFERENCES).sort("number")
    note = ""
    if shown.height < differences.height:
        left = differences.height - shown.height
        note = f"{words.count(left)} more, most of them consequences, are in the lake's table parity/differences."
    return Table(_HEADS, tuple(_row(row) for row in shown.iter_rows(named=True)), note)


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    cause = row["cause"] if row["follows"] is None else f"{row['cause']}, follows {row['follows']}"
    what = row["what"] if row["path"] == "live" else f"{row['what']} of VectorBT"
    stamp = words.moment(row["timestamp"])
    return str(row["number"]), stamp, what, row["expected"], row["found"], cause, row["evidence"]


def _spelled(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {told}" for name, told in value.items() if told is not None)
    return str(value)

"""What a running sweep shows: its best combinations as rows, and a map of the rest as a picture.

A picture and no page: it stands in Prefect's list of artifacts, where no script runs.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.report.charts.theme import DIVERGING, GREY, INK
from tasks.report.words import number, spell, word
from tasks.sweep.result import FIGURES
from tasks.sweep.standings import Standings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Most labels an axis of the picture carries.
MAX_TICKS = 12


def standing_rows(standings: Standings) -> list[dict[str, str]]:
    """Return the best combinations so far, spelled for a table: rank, parameters, figures in sample."""
    rows = []
    for rank, found in enumerate(standings.best, 1):
        told = {name: number(value) for name, value in found.items() if name not in FIGURES}
        rows.append({"Rank": str(rank)} | told | {word(name).title: spell(name, found[name]) for name in FIGURES})
    return rows


def standing_sentence(standings: Standings) -> str:
    """Say how far the sweep is and what its best is worth: in sample, so nothing yet."""
    best = f"; best Sharpe so far {spell('sharpe', standings.best[0]['sharpe'])}" if standings.best else ""
    return f"{standings.done:,} of {standings.total:,} combinations{best} (in sample, not judged yet)"


def standing_png(standings: Standings) -> bytes:
    """Draw the best in-sample Sharpe ratio over the one or two widest parameters; grey where nothing is known yet.

    Returns:
        A PNG of about 900 by 560 pixels on white, readable on a dark page too.

    Raises:
        ValueError: No parameter varies (`Standings.axes` is empty), so there is no map.
    """
    from matplotlib.colors import CenteredNorm, LinearSegmentedColormap
    from matplotlib.figure import Figure  # half a second, for runs that have an artifact to put it in

    if not standings.axes:
        raise ValueError("a map of the sweep needs a parameter that varies, found none in `Standings.axes`")
    levels = [sorted({place[k] for place in standings.cells}) for k in range(len(standings.axes))]
    columns, rows = levels[0], levels[1] if len(levels) > 1 else [0.0]
    figure = Figure(figsize=(9, 5.6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    colours = LinearSegmentedColormap.from_list("sharpe", DIVERGING).with_extremes(bad=GREY)
    drawn = axes.imshow(_matrix(standings, columns, rows), cmap=colours, norm=CenteredNorm(), aspect="auto")
    axes.invert_yaxis()
    _label(axes, standings.axes, columns, rows)
    figure.colorbar(drawn, label="Best Sharpe, in sample")
    axes.set_title(standing_sentence(standings), fontsize=11, color=INK, loc="left")
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


def _matrix(standings: Standings, columns: Sequence[float], rows: Sequence[float]) -> np.ma.MaskedArray[Any, Any]:
    x, y = ({value: k for k, value in enumerate(axis)} for axis in (columns, rows))
    matrix = np.full((len(rows), len(columns)), np.nan)
    for place, sharpe in standings.cells.items():
        matrix[y[place[1]] if len(place) > 1 else 0, x[place[0]]] = sharpe
    return np.ma.masked_invalid(matrix)


def _label(axes: Axes, names: Sequence[str], columns: Sequence[float], rows: Sequence[float]) -> None:
    across, up = _ticks(columns), _ticks(rows) if len(names) > 1 else []
    axes.set_xticks(across, [number(columns[k]) for k in across])
    axes.set_yticks(up, [number(rows[k]) for k in up])
    axes.set_xlabel(word(names[0]).title)
    if len(names) > 1:
        axes.set_ylabel(word(names[1]).title)


def _ticks(levels: Sequence[float]) -> list[int]:
    step = -(-len(levels) // MAX_TICKS)
    return list(range(0, len(levels), step))

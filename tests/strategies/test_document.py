"""The strategy that docs/strategies.md writes works as it stands there."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from tasks.strategies.registry import names
from tasks.sweep import engine
from tasks.sweep.costs import Costs
from tasks.sweep.grid import plan_grid
from tasks.sweep.market import prepare_bars
from tests.sweep.conftest import make_bars

DOCUMENT = Path(__file__).parents[2] / "docs" / "strategies.md"


def test_the_documents_strategy_trades(tmp_path: Path) -> None:
    """The code block, saved as a file, is a strategy that the engine sweeps."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)
    (code,) = (block for block in blocks if "STRATEGY" in block)
    path = tmp_path / "gap_fade.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("gap_fade", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    frame: pl.DataFrame = make_bars(2_000, seed=1)
    bars, grid = prepare_bars(frame, "1m"), plan_grid(module.STRATEGY, {"gap": [0.001, 0.004]})
    rows, span = grid.rows(bars.matrix), np.array([[0, len(bars)]])
    signal: Callable = module.STRATEGY.signal
    figures = engine.run_sets(signal, bars, rows, grid.use, grid.vectors, Costs(), span)
    assert (figures[:, 0, 3] > 5).all()


def test_the_document_names_every_strategy() -> None:
    """A strategy without a line in the table is not shipped."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in names())

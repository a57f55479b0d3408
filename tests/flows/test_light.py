"""Importing a flow is light: what takes seconds loads only where it is used."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "vectorbt",
    "great_expectations",
    "numba",
    "plotly",
    "ccxt",
    "exchange_calendars",
    "duckdb",
    "bokeh_sampledata",
    "skfolio",
)


FLOWS = ("backfill", "quality", "features", "sweep", "research", "maintain", "parity", "portfolio", "live")


def test_importing_a_flow_loads_nothing_heavy() -> None:
    """A worker that imports a flow to run one step does not pay for the others: all of them together load none."""
    script = f"""
import importlib, sys
for flow in {FLOWS!r}:
    importlib.import_module(f"flows.{{flow}}")
    print(flow, [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{flow} []" for flow in FLOWS]

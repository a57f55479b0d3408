"""Runs the example notebook from top to bottom; `make docs` calls it.

Not collected by the suite (its name does not begin with ``test_``): it starts a kernel and takes half a minute.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.pages import ROOT

NOTEBOOK = ROOT / "examples" / "research.ipynb"


@pytest.mark.timeout(300)
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs, charts and verdict are shown, and two reports' worth of work is on disk at the end."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    charts = [output for output in outputs if "application/vnd.plotly.v1+json" in output.get("data", {})]
    assert len(charts) == 2
    assert any("nothing survives" in output.get("text", "").lower() for output in outputs)
    assert ".html" in outputs[-1].data["text/plain"]

"""Runs the example notebook from top to bottom; `make docs` calls it.

Not collected by the suite (its name does not begin with ``test_``): it starts a kernel and takes half a minute.
The notebook is stored with what its cells show; ``python -m tests.docs.notebook`` stores it anew.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.pages import ROOT

NOTEBOOK = ROOT / "examples" / "research.ipynb"


def run(folder: Path) -> nbformat.NotebookNode:
    """Return the notebook as it is after running it in an empty folder."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=120, record_timing=False, resources={"metadata": {"path": str(folder)}})
    return client.execute()


def shown(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what the cells print and show as text, progress left out."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    told = [output for output in outputs if output.get("name") != "stderr"]
    return [output.get("text") or output.data["text/plain"] for output in told]


@pytest.mark.timeout(300)
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs and shows what is stored with it: tables, two charts, the verdict, the report's name."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    stored, fresh = nbformat.read(NOTEBOOK, as_version=4), run(tmp_path)
    assert shown(fresh) == shown(stored), "run: python -m tests.docs.notebook"
    outputs = [output for cell in fresh.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert any("nothing survives" in text.lower() for text in shown(fresh))
    assert ".html" in shown(fresh)[-1]


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as name:
        nbformat.write(run(Path(name)), NOTEBOOK)

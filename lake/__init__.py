"""The floor everyone stands on: bars and every other table on disk. Imports nothing of ours but `tasks.errors`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl


def sql(query: str, root: str | Path = "data") -> pl.DataFrame:
    """Run SQL over the lake at `root` and return its rows; the views are those of `lake.query`."""
    from lake.store import Lake  # here, so that `import lake` loads neither deltalake nor duckdb

    return Lake(root).sql(query)

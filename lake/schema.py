"""The columns and types of every frame that crosses a room's door."""

from __future__ import annotations

import polars as pl

from tasks.errors import SchemaError

TIMESTAMP = pl.Datetime("us", "UTC")

#: One symbol's bars in memory: sorted by timestamp (a bar's open), one row a bar. `volume` is in the base asset,
#: `quote_volume` in the quote asset, null where the vendor has none.
BARS: dict[str, pl.DataType] = {
    "timestamp": TIMESTAMP,
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "volume": pl.Float64(),
    "quote_volume": pl.Float64(),
}


def as_bars(frame: pl.DataFrame) -> pl.DataFrame:
    """Return `frame` with exactly the columns and types of `BARS`; a missing `quote_volume` becomes null.

    Rows are neither sorted nor dropped: what is wrong with them is for quality to say.

    Raises:
        SchemaError: A column is missing, or cannot be cast without loss.
    """
    missing = [name for name in BARS if name not in frame.columns and name != "quote_volume"]
    if missing:
        raise SchemaError(f"bars: expected columns {list(BARS)}, missing {missing}, found {frame.columns}")
    if "quote_volume" not in frame.columns:
        frame = frame.with_columns(quote_volume=pl.lit(None, pl.Float64))
    if frame.schema["timestamp"] == pl.Datetime and frame.schema["timestamp"].time_zone is None:  # type: ignore[union-attr]
        raise SchemaError("bars: expected timestamp in UTC, found a column without a time zone; say which it is")
    if frame.schema == BARS:
        return frame
    try:
        return frame.select(pl.col(name).cast(kind, strict=True) for name, kind in BARS.items())
    except pl.exceptions.PolarsError as error:
        raise SchemaError(f"bars: expected types {BARS}, found {dict(frame.schema)}: {error}") from error

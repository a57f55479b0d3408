"""Bars → feature tables in the lake."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Annotated

from pydantic import Field

from flows.adhoc import flow
from flows.events import record_asset
from flows.parameters import DEFAULT_START, EndDay, IntervalName, Symbols, span
from flows.settings import load
from flows.steps import Progress, publish_table, step
from tasks.features.task import FeatureReceipt, build_features

#: No list of choices: the registry loads Numba. `build_features` refuses an unknown name with those there are.
FeatureName = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
FeatureNames = Annotated[list[FeatureName] | None, Field(description="Features by name; empty for all.")]


@flow(name="features", flow_run_name="features {interval}")
async def features(
    symbols: Symbols,
    interval: IntervalName = "1m",
    start: Annotated[date | None, Field(description="First UTC day; empty: go on where the last build ended.")] = None,
    end: EndDay = None,
    names: FeatureNames = None,
) -> list[FeatureReceipt]:
    """Compute features of some symbols and store them beside the bars; without days only what is new is computed.

    Args:
        symbols: Symbols in the vendor's spelling.
        interval: Length of a bar.
        start: First UTC day; empty to go on where the last build ended, or anew where it is outdated.
        end: First UTC day no longer wanted; empty for up to the newest closed bar. Days given are computed again.
        names: Features by name (docs/features.md lists them); empty for all that bars alone can give.

    Returns:
        One receipt a symbol.
    """
    settings = load()
    first, last = None, None
    if start is not None or end is not None:
        first, last = span(interval, start or DEFAULT_START, end, now=settings.market_now)
    receipts = []
    async with Progress(
        "features-progress", len(symbols), f"{interval} features of {len(symbols)} symbols"
    ) as progress:
        for symbol in symbols:
            receipts.append(await step(build_features, settings.lake_root, symbol, interval, names, first, last))
            await progress.advance()
    await publish_table("features", [asdict(receipt) for receipt in receipts], f"Features of {interval} bars")
    rows = sum(receipt.rows for receipt in receipts)
    await record_asset(settings.lake_root, f"features/{interval}", [f"klines/{interval}"], rows=rows)
    return receipts


if __name__ == "__main__":
    from flows.cli import main

    main()

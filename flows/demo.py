"""``make demo``: from nothing to a report on real bars, on a market inside this process. No key, no internet.

The bars are thirteen years of four US shares, real and daily (from the package `bokeh-sampledata`), served by the local
market as the vendor would serve them.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from datetime import date

import structlog
from pydantic import SecretStr

SYMBOLS = ["AAPL.US", "GOOG.US", "IBM.US", "MSFT.US"]
FIRST_DAY = date(2000, 3, 1)
LAKE_ROOT = "data/demo"


def main() -> None:
    """Run the research flow on the embedded market and print what came out."""
    began = time.monotonic()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")  # before Prefect is imported, which reads it once
    from flows.adhoc import server
    from flows.research import Researched, research
    from flows.settings import Settings, use
    from flows.show import show_research
    from tasks.simulator.market import us_equities
    from tasks.simulator.server import Simulator

    loaded, market = time.monotonic() - began, us_equities(symbol.removesuffix(".US") for symbol in SYMBOLS)
    with Simulator(market, plan="unlimited") as simulator, server() as prefect:
        ready = time.monotonic() - began
        settings = Settings(
            lake_root=LAKE_ROOT,
            vendor_url=simulator.url,
            api_key=SecretStr(simulator.api_key),
            market_now=market.now,
            requests_per_minute=60_000,
            history_days=36_500,
        )
        with use(settings):
            found: Researched = research(SYMBOLS, interval="1d", start=FIRST_DAY)
    seconds = {"imports": loaded, "market and Prefect server": ready - loaded, **found.seconds}
    show_research(replace(found, seconds=seconds | {"all": time.monotonic() - began}))
    print(f"Lake:   {LAKE_ROOT} (try: klinehouse sql --root {LAKE_ROOT} 'SUMMARIZE klines')")
    print(f"Runs:   {prefect.removesuffix('/api')} (the server stays for the next run; `make stop` ends it)")


if __name__ == "__main__":
    main()

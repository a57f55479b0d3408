"""Run the local market from a shell: ``python -m tasks.simulator --help``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

from tasks.errors import InputError
from tasks.simulator.faults import Faults
from tasks.simulator.instruments import TYPES
from tasks.simulator.intervals import INTERVALS
from tasks.simulator.market import Market, generated, replay, us_equities
from tasks.simulator.plans import PLANS
from tasks.simulator.server import Simulator

_EPILOG = f"""\
markets:
  generated     seeded bars of --symbols from --start to --end; the same arguments give the same bytes
  replay        the files named with --file, value for value: .parquet or .csv with the columns
                timestamp, open, high, low, close, volume and perhaps quote_volume
  us-equities   real daily bars of AAPL, GOOG, IBM and MSFT, 2000 to 2013

symbols:
  BTCUSDT       never closes              ACME.US 700.HK 600519.SH   keep their exchange's hours and holidays
  BU2609        a future                  SPX:stock SPX:indices      one name, two types: needs &type=
                                          (types: {" ".join(TYPES)})

examples:
  python -m tasks.simulator
  python -m tasks.simulator --symbols BTCUSDT,ACME.US --start 2024-01-01 --end 2025-01-01 --seed 7
  python -m tasks.simulator --market replay --file BTC-PERP=bars.parquet --interval 1m --plan unlimited
  python -m tasks.simulator --fault missing_p=0.01 --fault server_error_p=0.05 --fault latency_s=0.02

then:
  curl -H 'X-API-Key: local-market-key' 'http://127.0.0.1:8765/v1/market/kline?symbol=BTCUSDT&interval=1m&limit=3'

faults: {" ".join(field.name for field in fields(Faults))}
"""


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    command = argparse.ArgumentParser(
        prog="python -m tasks.simulator",
        description="A local market that speaks the vendor's protocol on loopback: no key, no internet.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add(
        "--market", choices=("generated", "replay", "us-equities"), default="generated", help="where the bars come from"
    )
    add("--symbols", default="BTCUSDT,ETHUSDT", help="comma-separated, for a generated market (default: %(default)s)")
    add("--start", type=_moment, default=_moment("2025-01-01"), help="first instant, UTC (default: 2025-01-01)")
    add("--end", type=_moment, default=_moment("2025-04-01"), help="exclusive last instant, UTC (default: 2025-04-01)")
    add("--interval", choices=INTERVALS, default="1m", help="shortest interval, or that of the files (default: 1m)")
    add("--seed", type=int, default=7, help="seed of a generated market (default: %(default)s)")
    add("--file", action="append", default=[], metavar="SYMBOL=PATH", help="a file to replay; may be repeated")
    add("--now", type=_moment, help="the market's time (default: the end of its data)")
    add("--plan", choices=tuple(PLANS), default="enterprise", help="what the key may do (default: %(default)s)")
    add("--key", default="local-market-key", help="the API key (default: %(default)s)")
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=8765, help="port to listen on, 0 for a free one (default: %(default)s)")
    add("--fault", action="append", default=[], metavar="NAME=VALUE", help="what goes wrong; may be repeated")
    return command


def market_of(arguments: argparse.Namespace) -> Market:
    """Build the market that the arguments describe.

    Raises:
        InputError: A replay names no file, or one without a symbol.
    """
    if arguments.market == "us-equities":
        return us_equities()
    if arguments.market == "generated":
        symbols = tuple(arguments.symbols.split(","))
        return generated(
            seed=arguments.seed,
            symbols=symbols,
            interval=arguments.interval,
            start=arguments.start,
            end=arguments.end,
        )
    files = dict(text.partition("=")[::2] for text in arguments.file)
    if not files or not all(files.values()):
        raise InputError(f"--file: expected SYMBOL=PATH at least once, found {arguments.file}")
    return replay({symbol: Path(path) for symbol, path in files.items()}, interval=arguments.interval)


def faults_of(texts: Sequence[str]) -> Faults:
    """Build the faults out of ``name=value`` texts.

    Raises:
        InputError: A name is no fault, or a value no number.
    """
    faults = Faults()
    known = {field.name for field in fields(Faults)}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in known:
            raise InputError(f"--fault: expected one of {' '.join(sorted(known))}, found {name!r}")
        default = getattr(faults, name)
        kind = int if default is None else type(default)
        try:
            faults = replace(faults, **{name: kind(float(value))})  # type: ignore[arg-type]
        except ValueError:
            raise InputError(f"--fault {name}: expected a number after '=', found {value!r}") from None
    return faults


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted; returns the exit status."""
    arguments = parser().parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        market, faults = market_of(arguments), faults_of(arguments.fault)
        simulator = Simulator(
            market,
            plan=arguments.plan,
            faults=faults,
            now=arguments.now,
            host=arguments.host,
            port=arguments.port,
            api_key=arguments.key,
            seed=arguments.seed,
        )
        with simulator:
            symbols = " ".join(item.symbol for item in market.instruments)
            print(f"serving  {symbols}", f"plan     {arguments.plan}", f"now      {simulator.market.now}", sep="\n")
            print(f"key      {simulator.api_key}\nurl      {simulator.url}", flush=True)
            stop.wait()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Run the local market from a shell: ``python -m tasks.simulator --help``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import fill
from typing import TypeVar

from tasks.errors import InputError
from tasks.simulator.clock import MarketClock
from tasks.simulator.faults import Faults, StreamFaults
from tasks.simulator.instruments import TYPES
from tasks.simulator.intervals import INTERVALS
from tasks.simulator.market import Market, generated, replay, us_equities
from tasks.simulator.orderfaults import OrderFaults
from tasks.simulator.plans import PLANS
from tasks.simulator.server import Simulator

Kind = TypeVar("Kind")


def _names(option: str, kind: type) -> str:
    names = " ".join(field.name for field in fields(kind))
    return fill(names, 110, initial_indent=f"{option:16}", subsequent_indent=" " * 16)


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
  python -m tasks.simulator --speed 60 --stream-fault endings=rst,fin,silent --order-fault uniqueness=open

then:
  curl -H 'X-API-Key: local-market-key' 'http://127.0.0.1:8765/v1/market/kline?symbol=BTCUSDT&interval=1m&limit=3'

  websocat 'ws://127.0.0.1:8765/v1/realtime?api_key=local-market-key'   # {{"cmd":"subscribe","data":{{…}}}}

{_names("--fault", Faults)}
{_names("--stream-fault", StreamFaults)}
{_names("--order-fault", OrderFaults)}

Endpoints, orders and the meaning of every fault: docs/simulator.md
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
    add("--speed", type=float, help="let time pass from --now on (default then: an hour before the end): 1, 60, inf")
    add("--plan", choices=tuple(PLANS), default="enterprise", help="what the key may do (default: %(default)s)")
    add("--key", default="local-market-key", help="the API key (default: %(default)s)")
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=8765, help="port to listen on, 0 for a free one (default: %(default)s)")
    for name, what in (("--fault", "REST"), ("--stream-fault", "the WebSocket"), ("--order-fault", "order entry")):
        add(name, action="append", default=[], metavar="NAME=VALUE", help=f"what goes wrong with {what}; repeatable")
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


def faults_of(faults: Kind, texts: Sequence[str]) -> Kind:
    """Return faults with ``name=value`` texts applied; a list is written ``rst,fin``.

    Raises:
        InputError: A name is no fault, or a value does not fit it.
    """
    known = {field.name for field in fields(faults)}  # type: ignore[arg-type]
    for text in texts:
        name, _, value = text.partition("=")
        if name not in known:
            raise InputError(f"fault: expected one of {' '.join(sorted(known))}, found {name!r}")
        try:
            faults = replace(faults, **{name: _value(getattr(faults, name), value)})  # type: ignore[type-var]
        except ValueError as error:
            raise InputError(f"fault {name}={value}: expected a value that fits: {error}") from None
    return faults


def _value(default: object, text: str) -> object:
    """Read a fault's value as its default's type; a fault that is off by default (None) takes any number."""
    if isinstance(default, tuple):
        return tuple(text.split(","))
    if isinstance(default, str):
        return text
    number = float(text)
    if isinstance(default, bool):
        return bool(number)
    if isinstance(default, float) or not number.is_integer():
        return number
    return int(number)


def clock_of(arguments: argparse.Namespace, market: Market) -> MarketClock | datetime | None:
    """Return what passes for time: fixed, unless a speed is asked for."""
    if arguments.speed is None:
        return arguments.now
    return MarketClock(arguments.now or market.now - timedelta(hours=1), speed=arguments.speed)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted; returns the exit status."""
    arguments = parser().parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        market = market_of(arguments)
        simulator = Simulator(
            market,
            plan=arguments.plan,
            faults=faults_of(Faults(), arguments.fault),
            stream_faults=faults_of(StreamFaults(), arguments.stream_fault),
            order_faults=faults_of(OrderFaults(), arguments.order_fault),
            now=clock_of(arguments, market),
            host=arguments.host,
            port=arguments.port,
            api_key=arguments.key,
            seed=arguments.seed,
        )
        with simulator:
            symbols = " ".join(item.symbol for item in market.instruments)
            print(f"serving  {symbols}", f"plan     {arguments.plan}", f"now      {simulator.market.now}", sep="\n")
            print(
                f"stream   {simulator.stream_url}\nkey      {simulator.api_key}\nurl      {simulator.url}", flush=True
            )
            stop.wait()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

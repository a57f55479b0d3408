"""Feed every parser of bytes from outside with damaged inputs: ``make proof-fuzz``, ``INPUTS=1000000``.

An input is survived if the parser answers, or raises an error of ours, within a second and without its process growing.
A parser that hangs inside C is ended by the watchdog, which prints where. One input again, with its traceback::

    python -m benchmarks.fuzz --parser frames --only 4711
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import re
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import structlog

from benchmarks.fuzz_parsers import PARSERS, Parser
from benchmarks.runner import Table
from tasks.broker.private import BrokenStreamError
from tasks.errors import KlinehouseError

SEED = 20261122
#: What an input may take. The inputs are below a megabyte, and a parser needs microseconds to milliseconds for them.
SECONDS, GROWTH_MB = 1.0, 256.0
_HANG_S = 60.0
_BATCH = 1_000
#: Finds of one kind that are kept; the rest are counted.
_EXAMPLES = 3
_DIGITS = re.compile(r"\d+")


@dataclass
class Tally:
    """What became of a parser's inputs.

    Attributes:
        inputs: How many.
        outcomes: How often each class of ours was raised, and `answered`.
        crashes: Everything else: kind → numbers of the first inputs that did it.
        slowest_s: CPU seconds of the slowest input.
        growth_mb: Growth of the process's peak memory after the first batch.
        seconds: CPU seconds in all.
    """

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    crashes: dict[str, list[int]] = field(default_factory=dict)
    slowest_s: float = 0.0
    growth_mb: float = 0.0
    seconds: float = 0.0

    def crashed(self, kind: str, number: int) -> None:
        """Keep the number of an input that was not survived."""
        examples = self.crashes.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(number)


def made(name: str, parser: Parser, number: int, seed: int = SEED) -> bytes:
    """Return a parser's input of that number."""
    return parser.make(Random(f"{seed}/{name}/{number}"))  # noqa: S311 - inputs that can be made again, no secrets


def fuzz(name: str, inputs: int, *, seed: int = SEED) -> Tally:
    """Feed one parser and return what became of the inputs."""
    parser, tally = PARSERS[name], Tally()
    began, before = time.process_time(), _peak_mb()
    with parser.opened() as parse:
        for first in range(0, inputs, _BATCH):
            faulthandler.dump_traceback_later(_HANG_S, exit=True)
            for number in range(first, min(first + _BATCH, inputs)):
                _feed(parse, made(name, parser, number, seed), number, tally)
            if first == 0:
                before = _peak_mb()
        faulthandler.cancel_dump_traceback_later()
    tally.growth_mb = _peak_mb() - before
    tally.seconds = time.process_time() - began
    return tally


def _feed(parse: Callable[[bytes], None], body: bytes, number: int, tally: Tally) -> None:
    began = time.process_time()
    try:
        parse(body)
        outcome = "answered"
    except (KlinehouseError, BrokenStreamError) as error:
        outcome = type(error).__name__
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of Rust is no Exception, and finding it is the point
        outcome = "crash"
        tally.crashed(f"{type(error).__name__}: {_DIGITS.sub('#', str(error))[:60]!a}", number)
    taken = time.process_time() - began
    tally.inputs += 1
    tally.outcomes[outcome] += 1
    tally.slowest_s = max(tally.slowest_s, taken)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Feed the parsers asked for and print what became of the inputs."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--inputs", type=int, default=1_000_000, help="for each parser")
    arguments.add_argument("--parser", choices=PARSERS, action="append", help="all where left out")
    arguments.add_argument("--only", type=int, help="one input, its bytes and its traceback")
    chosen = arguments.parse_args()
    names = chosen.parser or list(PARSERS)
    if chosen.only is not None:
        body = made(names[0], PARSERS[names[0]], chosen.only)
        print(body[:2_000])
        with PARSERS[names[0]].opened() as parse:
            parse(body)
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    table = Table(f"{chosen.inputs:,} damaged inputs a parser, seed {SEED}")
    for name in names:
        _judge(table, name, fuzz(name, chosen.inputs))
    table.finish()


def _judge(table: Table, name: str, tally: Tally) -> None:
    outcomes = ", ".join(f"{kind} {count:,}" for kind, count in tally.outcomes.most_common())
    for kind, numbers in tally.crashes.items():
        print(f"{name}: {kind}, inputs {numbers}")
    what = PARSERS[name].what
    detail = f"{outcomes}; {tally.inputs:,} inputs, {tally.inputs / tally.seconds:,.0f} a CPU second"
    table.figure(f"{what}: not survived", tally.outcomes["crash"], at_most=0, detail=detail)
    table.figure(f"{what}: slowest input", tally.slowest_s, at_most=SECONDS, unit=" s")
    table.figure(f"{what}: growth of memory", tally.growth_mb, at_most=GROWTH_MB, unit=" MB")


if __name__ == "__main__":
    main()

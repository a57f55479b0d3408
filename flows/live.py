"""The live flow: one long run that streams, watches, records and trades until somebody stops it.

It lives in a process of its own: ``python -m flows.live BTCUSDT --strategy ma_crossover`` serves the deployment
``live/live`` and begins a run of it. Never under the process worker, which kills a run in 0.05 s without letting it
clean up, and never with a deployment concurrency limit, whose lease kills a healthy run when the server restarts. A
file lock is what keeps a second one out. SIGTERM, SIGINT, both at once or twice, and a cancel from the UI all end it
clean; SIGUSR1 and the file HALT in the state folder stop its trading and nothing else. A run that ends otherwise takes
the serving process with it (`flows.live_serving`).

No postponed annotations here: the runner pickles a served flow by value, and names that only annotations use would be
left behind.
"""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import structlog
from filelock import FileLock, Timeout
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import TerminationSignal
from prefect.runner import Runner
from prefect.runtime import flow_run
from prefect.states import Cancelled, State
from pydantic import BaseModel, Field

from flows import adhoc
from flows.live_account import open_account
from flows.live_alerts import AlertSender
from flows.live_desk import LiveDesk
from flows.live_plan import Direction, Mode, TradingPlan, check_plan
from flows.live_serving import check_alone, ending_with_its_run, note_clean_end
from flows.live_switch import KillSwitch, forward, lock_path
from flows.live_vendor import open_live_vendor
from flows.parameters import BlockName, IntervalName, Symbols, check_strategy
from flows.settings import load
from flows.tidy import remember_live_run
from flows.trading_process import kept_awake
from tasks.errors import ConfigurationError
from tasks.strategies.book_gate import BookGate
from tasks.strategies.registry import names as strategy_names
from tasks.stream.monitor import MonitorPolicy

log = structlog.get_logger("flows.live")

NAME = "live"


#: A strategy, or none: then the flow watches and records, and the desk stands ready.
LiveStrategy = Annotated[
    str,
    Field(description="Strategy that trades; none only watches.", json_schema_extra={"enum": ["", *strategy_names()]}),
]
Broker = Annotated[
    str,
    Field(
        pattern=r"^(paper|ccxt:[a-z0-9]+)$",
        description="paper, or an exchange of ccxt such as ccxt:binance: its sandbox, unless the mode is live.",
        json_schema_extra={"examples": ["paper", "ccxt:binance", "ccxt:binanceusdm"]},
    ),
]


def _run_name() -> str:
    """Return a run's name: the interval, and the strategy where one trades."""
    said = flow_run.parameters
    return " ".join(("live", said["interval"], said["strategy"])).strip()


@flow(name=NAME, flow_run_name=_run_name)
async def live(
    symbols: Symbols,
    interval: IntervalName = "1m",
    strategy: LiveStrategy = "",
    strategy_params: dict[str, float] = {},  # noqa: B006  # Prefect reads the defaults for its form; nobody changes them
    position_fraction: Annotated[float, Field(gt=0, le=1)] = 0.005,
    direction: Direction = "long",
    book_gate: BookGate = BookGate(),  # noqa: B008  (frozen)
    broker: Broker = "paper",
    mode: Mode = "paper",
    i_accept_live: str = "",
    allow_non_idempotent: str = "",
    alert_blocks: list[BlockName] = [],  # noqa: B006
    buy_above: Annotated[float, Field(gt=1)] = 2.5,
    sell_below: Annotated[float, Field(gt=0, lt=1)] = 0.4,
) -> State[Any]:
    """Stream, watch, record and trade some symbols until stopped.

    Args:
        symbols: Symbols in the vendor's spelling, the most important first.
        interval: Bars kept up to date in the lake while streaming, and decided on.
        strategy: Strategy that trades, such as ma_crossover; none only watches.
        strategy_params: The strategy's parameters where they are not its defaults, such as {"fast": 5, "slow": 20}.
        position_fraction: Share of equity that a position shall have; at most what the limits allow one order.
        direction: Which side of the market the strategy may be on.
        book_gate: What the order book must say before a position is opened; by default nothing.
        broker: paper, or an exchange of ccxt such as ccxt:binance: its sandbox, unless the mode is live.
        mode: live moves real money, and needs i_accept_live and a key that may trade.
        i_accept_live: For live only: the account's name from KLINEHOUSE_LIVE_ACCOUNT, typed once more.
        allow_non_idempotent: The exchange's name, to trade live where an order in doubt can never be sent again.
        alert_blocks: Prefect notification blocks that hear of pressure, halts and outages, such as slack-webhook/ops.
        buy_above: Pressure ratio above which an episode of buying begins.
        sell_below: Pressure ratio below which an episode of selling begins.

    Returns:
        Cancelled when it was stopped, with everything recorded.

    Raises:
        ConfigurationError: Another live flow runs, a setting is missing, or live trading was not accepted.
        InputError: There is no such strategy, or it does not take these parameters.
    """
    settings, stop = load(), asyncio.Event()
    monitor, switch = MonitorPolicy.beyond(buy_above, sell_below), KillSwitch(settings.state_dir)
    plan = TradingPlan(
        strategy,
        strategy_params,
        position_fraction,
        direction,
        broker,
        mode,
        i_accept_live,
        allow_non_idempotent,
        book_gate,
    )
    check_plan(plan, settings)
    if strategy:
        check_strategy(strategy)
    awake = kept_awake() if settings.keep_awake else nullcontext()
    with single_instance(lock_path(settings.state_dir)), stopped_by_signals(stop), switch.on_signal(), awake:
        remember_live_run(settings.state_dir)
        async with (
            open_account(settings, plan, symbols) as account,
            open_live_vendor(settings, symbols) as vendor,
            AlertSender(alert_blocks) as alerts,
        ):
            await LiveDesk(settings, vendor, symbols, interval, monitor, alerts, account, switch).run(stop)
        note_clean_end(settings.state_dir)
    return Cancelled(message="Stopped: orders are accounted for, and what was seen is in the lake.")


@contextmanager
def single_instance(path: Path) -> Iterator[None]:
    """Hold the lock that only one live flow can hold; the kernel gives it back whatever happens to the process.

    Raises:
        ConfigurationError: Another live flow holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigurationError(
            f"live: expected no other live flow, found one holding {path}; stop it first"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` on SIGTERM and SIGINT, however often they come, in the place of Prefect's handlers."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class OnceRunner(Runner):
    """Prefect's runner, deaf to every signal after the first: a second one makes it hang with its run already over."""

    def handle_sigterm(self, *args: Any) -> None:
        """Begin to end, once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        super().handle_sigterm(*args)


def serve(symbols: list[str], **parameters: Any) -> None:
    """Serve the deployment ``live/live`` from this process, begin a run, and return when both have ended.

    Raises:
        ConfigurationError: What the parameters ask for is not safe to begin, or another live flow runs; no run is made.
        SystemExit: With code 1, where the run ended in any other way than clean.
    """
    check_plan(TradingPlan.of(parameters), load())
    folder = load().state_dir
    check_alone(folder)
    with adhoc.server(), ending_with_its_run(folder):
        runner = OnceRunner(name=NAME, pause_on_shutdown=False, limit=1)
        signal.signal(signal.SIGUSR1, lambda *_: forward(folder))  # the flow is another process; this one would die
        plain = {name: one.model_dump() if isinstance(one, BaseModel) else one for name, one in parameters.items()}
        deployment = runner.add_flow(live, name=NAME, parameters={"symbols": symbols, **plain})
        with get_client(sync_client=True) as client:
            client.create_flow_run_from_deployment(deployment)  # type: ignore[arg-type]
        try:
            asyncio.run(runner.start())
        except (KeyboardInterrupt, TerminationSignal):
            log.info("serving.stopped")


if __name__ == "__main__":
    from flows.cli import main

    main(["live", *sys.argv[1:]])

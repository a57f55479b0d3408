"""The command line: each flow is a command whose options are the flow's own parameters.

``klinehouse research --help`` teaches them; ``--no-orchestration`` runs the same code without a Prefect server.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import structlog
from cyclopts import App, Parameter
from cyclopts.validators import Number

from flows.show import console, show
from tasks.errors import ConfigurationError, KlinehouseError

if TYPE_CHECKING:
    from lake.store import Lake

#: Command → where its flow lives and the line that ``--help`` shows. A flow is imported when its command runs.
FLOWS: dict[str, tuple[str, str]] = {
    "backfill": ("flows.backfill:backfill", "Fetch missing bars into the lake."),
    "quality": ("flows.quality:quality", "Judge the partitions of the lake."),
    "quality-lake": ("flows.quality:quality_lake", "Judge all of the lake that changed, and build its pages."),
    "release": ("flows.quality:release", "Release rejected partitions, with a reason on record."),
    "features": ("flows.features:features", "Compute feature tables from bars."),
    "sweep": ("flows.sweep:sweep", "Search a strategy's parameters, out of sample."),
    "portfolio": ("flows.portfolio:portfolio", "Weigh symbols or finished sweeps, rebalanced with costs."),
    "parity": ("flows.parity:parity", "Trade a recorded period as sweep, VectorBT and live, and explain what differs."),
    "maintain": ("flows.maintain:maintain", "Compact the lake, and name the runs that corrections touched."),
    "research": ("flows.research:research", "All of the above in a row, then the report."),
    "live": ("flows.live:live", "Stream, watch, record and trade until stopped; on paper unless told otherwise."),
}

_SWITCH = Annotated[
    bool,
    Parameter(negative="--no-orchestration", help="Record the run on a Prefect server, started if there is none."),
]

#: What a disk says that is full, read-only or failing; the error names no file where that was open already.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)

app = App(name="klinehouse", help="Bars you can prove complete, sweeps that are honest about luck.")


@app.command(name="sql")
def sql(query: str, *, root: str | None = None) -> None:
    """Run a query over the lake and print the answer.

    Args:
        query: DuckDB SQL over the lake's tables, such as ``SELECT symbol, count(*) FROM klines GROUP BY symbol``.
        root: Folder or s3:// address of the lake; the setting KLINEHOUSE_LAKE_ROOT where it is left out.
    """
    print(_lake(root).sql(query))


@app.command(name="import")
def import_bars(
    place: str,
    *,
    symbol: str,
    interval: str,
    columns: dict[str, str] | None = None,
    time_zone: str | None = None,
    root: str | None = None,
) -> None:
    """Bring bars of a file, another lake or Redis into the lake.

    Args:
        place: A CSV or Parquet file, ``s3://…`` or the folder of another lake, ``redis://…``, or ``redis`` for the
            setting KLINEHOUSE_REDIS_URL.
        symbol: Whose bars they are.
        interval: Length of a bar.
        columns: Our column to the file's, where they differ: ``--columns.timestamp Date --columns.close "Adj Close"``.
        time_zone: Zone of times that carry none, such as ``UTC`` or ``America/New_York``.
        root: Folder or s3:// address of the lake; the setting KLINEHOUSE_LAKE_ROOT where it is left out.
    """
    from lake.ladder import import_from

    names = {"symbol": symbol, "interval": interval, "columns": columns, "time_zone": time_zone}
    done = import_from(_lake(root), _place(place), **names)  # type: ignore[arg-type]
    print(f"{done.rows_written:,} bars read: {done.rows_new:,} new, {done.rows_revised:,} revised")


@app.command(name="export")
def export_bars(
    place: str,
    *,
    symbol: str,
    interval: str,
    version: int | None = None,
    newest: int | None = None,
    root: str | None = None,
) -> None:
    """Copy a symbol's bars to a file, another lake or Redis.

    Args:
        place: A CSV or Parquet file (it appears whole or not at all), ``s3://…`` or the folder of another lake,
            ``redis://…``, or ``redis`` for the setting KLINEHOUSE_REDIS_URL.
        symbol: Whose bars.
        interval: Length of a bar.
        version: Version of the table; the newest where it is left out.
        newest: Only that many of the newest bars; 1,000 for Redis where it is left out.
        root: Folder or s3:// address of the lake; the setting KLINEHOUSE_LAKE_ROOT where it is left out.
    """
    from lake.ladder import export_to

    count = export_to(_lake(root), _place(place), symbol=symbol, interval=interval, version=version, newest=newest)
    print(f"{count:,} bars written")


@app.command(name="compare")
def compare(run_ids: list[str], *, root: str | None = None) -> None:
    """Write the page that compares finished sweeps, and print where it is.

    Args:
        run_ids: Two to eighteen runs; ``klinehouse sql "SELECT run_id, symbol, strategy FROM sweeps_runs"`` lists them.
        root: Folder or s3:// address of the lake; the setting KLINEHOUSE_LAKE_ROOT where it is left out.
    """
    from flows.settings import load
    from tasks.report.task import write_comparison

    settings = load()
    lake_root = settings.lake_root if root is None else root
    print(write_comparison.fn(lake_root, run_ids, str(settings.report_dir)))


report = App(name="report", help="The page of a finished sweep.")
app.command(report)


@report.command(name="open")
def open_report(run_id: str | None = None, *, browser: bool = True, root: str | None = None) -> None:
    """Write the page of a finished sweep from the lake, print where it is, and open it in the browser.

    Args:
        run_id: Which; the newest where it is left out.
        browser: Whether to open it; without a browser on this machine it is only written.
        root: Folder or s3:// address of the lake; the setting KLINEHOUSE_LAKE_ROOT where it is left out.
    """
    import webbrowser

    from flows.settings import load
    from tasks.report.task import write_report
    from tasks.sweep.store import newest_run

    settings = load()
    lake_root = settings.lake_root if root is None else root
    run_id = newest_run(_lake(lake_root)) if run_id is None else run_id
    page = write_report.fn(lake_root, run_id, str(settings.report_dir))
    print(page)
    if browser and not webbrowser.open(Path(page).resolve().as_uri()):
        print("no browser found on this machine; open the page above in one", file=sys.stderr)


@app.command(name="doctor")
def doctor() -> None:
    """Check this machine and say how to mend what is wrong; exit code 1 where something will not work."""
    from flows.doctor import examine, table

    findings = examine()
    console().print(table(findings))
    if any(one.grade == "fail" for one in findings):
        raise SystemExit(1)


@app.command(name="status")
def status(
    *, days: Annotated[int, Parameter(validator=Number(gte=1, lte=36_500))] = 30, root: str | None = None
) -> None:
    """Show what the lake holds, what quality says of it, what ran last, and whether live data flows.

    Args:
        days: How far back holes are looked for.
        root: Folder or s3:// address of the lake; the setting KLINEHOUSE_LAKE_ROOT where it is left out.
    """
    from flows.settings import load
    from flows.status import render

    settings = load()
    if root is not None:
        settings = settings.model_copy(update={"lake_root": root})
    console().print(render(settings, days=days))


@app.command(name="serve")
def serve(
    symbols: list[str] | None = None,
    *,
    strategy: str = "",
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 2,
) -> None:
    """Run everything on this machine until Ctrl-C: Prefect's server, a worker, the deployments, the live flow.

    Args:
        symbols: What the live flow streams, the most important first; none for no live flow.
        strategy: What it trades by, on paper; empty only watches. For more of its options run `klinehouse live` beside.
        limit: Flow runs at a time.
    """
    from flows.serve import run
    from flows.settings import load

    live = [*(symbols or []), *(["--strategy", strategy] if strategy else [])]
    run(load(), live, limit)


@app.command(name="deploy")
def deploy(*, pool_type: str = "process") -> None:
    """Put the work pool, every deployment of prefect.yaml and every automation on the Prefect server, or update them.

    Args:
        pool_type: Type of the work pool where there is none yet: process, docker or kubernetes.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import deploy
    from flows.settings import load

    url = deploy.running_server_url()
    with temporary_settings({PREFECT_API_URL: url}):
        names = asyncio.run(deploy.deploy({"PREFECT_API_URL": url}, load().alert_block, pool_type))
    print(f"Deployed to {url}; automations: {', '.join(names)}")


@app.command(name="journal")
def journal(
    verb: Literal["verify", "explain", "export"],
    client_order_id: str | None = None,
    *,
    account: str = "paper",
) -> None:
    """Read the journal of an account's orders, also while it is traded: `python -m tasks.journal` for this machine.

    Args:
        verb: verify every line; explain an order, its whole story with times; export every line as JSON.
        client_order_id: The order to explain.
        account: Whose journal.
    """
    from flows.settings import load
    from tasks.journal.__main__ import main as read
    from tasks.journal.place import journal_path

    path = journal_path(load().state_dir, account)
    raise SystemExit(read(["--journal", str(path), verb, *([client_order_id] if client_order_id else [])]))


@app.command(name="tidy")
def tidy() -> None:
    """Put the records of runs right after a crash: those whose process is gone, those that were missed meanwhile.

    For the moment before a worker starts, on the machine where it did.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.deploy import running_server_url
    from flows.settings import load
    from flows.tidy import tidy

    async def put_right() -> list[str]:
        async with get_client() as client:
            return await tidy(client, load().state_dir)

    with temporary_settings({PREFECT_API_URL: running_server_url()}):
        print("\n".join(asyncio.run(put_right())) or "Nothing to put right.")


def _place(place: str) -> str:
    """Return the place, with the address of Redis from the settings, so that its password is on no command line."""
    from flows.settings import load

    if place != "redis":
        return place
    url = load().redis_url
    if url is None:
        raise ConfigurationError("redis: expected KLINEHOUSE_REDIS_URL, found none; set it, or name redis://host/0")
    return url.get_secret_value()


def _lake(root: str | None) -> Lake:
    from flows.settings import load
    from lake.store import Lake

    return Lake(load().lake_root if root is None else root)


def command(name: str) -> Callable[..., Any]:
    """Make the command of a flow: its parameters by name, `symbols` also by position, and ``--no-orchestration``."""
    module, _, attribute = FLOWS[name][0].partition(":")
    flow = getattr(import_module(module), attribute)

    def run(*positional: Any, orchestration: bool = True, **parameters: Any) -> Any:
        if orchestration and name == "live":
            from flows.live import serve  # it serves its own deployment: a worker would not let it clean up

            return serve(*positional, **parameters)
        if orchestration:
            return flow(*positional, **parameters)
        return asyncio.run(flow.fn(*positional, **parameters))

    signature = inspect.signature(flow.fn, eval_str=True)
    first, *rest = signature.parameters.values()
    rest = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in rest]
    switch = inspect.Parameter("orchestration", inspect.Parameter.KEYWORD_ONLY, default=True, annotation=_SWITCH)
    run.__signature__ = signature.replace(parameters=[first, *rest, switch])  # type: ignore[attr-defined]
    run.__doc__ = flow.fn.__doc__
    run.__name__ = name
    return run


def build(arguments: list[str]) -> App:
    """Return the application with the one flow that `arguments` ask for loaded, and the others by name only."""
    for name, (_, line) in FLOWS.items():
        if name in arguments[:1]:
            app.command(command(name), name=name)
        else:
            app.command(App(name=name, help=line))
    app.default_parameter = Parameter(consume_multiple=True, negative_iterable=())
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error of ours, or a disk's refusal, is one line on stderr and exit code 1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (it was closed: for the process)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for answers
    from flows.settings import check_env_file

    try:
        check_env_file()
        show(build(arguments)(arguments, result_action="return_value"))
        sys.stdout.flush()  # here, where its failing can still be told
    except KlinehouseError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except BrokenPipeError:  # whoever read our output left, as `head` does
        _drop_output()
        raise SystemExit(1) from None
    except OSError as error:
        if error.filename is None and error.errno not in _DISK_ERRORS:  # of a connection, or of who knows what
            raise
        _drop_output()
        place = "" if error.filename is None else f": {error.filename}"
        print(f"{error.strerror}{place}; `klinehouse doctor` says how to mend a folder", file=sys.stderr)
        raise SystemExit(1) from None


def _drop_output() -> None:
    """Give up what stdout does not take: Python would try it once more at the end, and fail with a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()

"""The day's report as people read it: an artifact of the live run, one for every day and one for the run's end."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import structlog

from flows.steps import key_of, publish_markdown

log = structlog.get_logger("flows.live")


async def publish_day(account: str, report: dict[str, Any]) -> None:
    """Publish a day's report; where the server does not take it, the log and the journal have it all the same."""
    log.info("day.reported", account=account, **{name: str(value) for name, value in report.items()})
    try:
        await publish_markdown(key_of("day", account), told_day(account, report), f"{account}, {report['day']}")
    except Exception as error:  # noqa: BLE001  (whatever ails the server, trading does not depend on it)
        log.warning("day.not_published", account=account, error=type(error).__name__)


def told_day(account: str, report: dict[str, Any]) -> str:
    """Return a day's report as markdown."""
    positions = ", ".join(f"{quantity:f} {symbol}" for symbol, quantity in sorted(report["positions"].items()))
    rows = {
        "equity": f"{report['equity']:.2f}, {report['profit']:+.2f} since {report['equity_before']:.2f}",
        "fees": f"{report['fees']:.2f}{_elsewhere(report['fees_elsewhere'])}",
        "fills": f"{report['fills']} of {report['orders']} orders",
        "orders denied, rejected, in doubt": f"{report['denied']}, {report['rejected']}, {report['in_doubt']}",
        "positions": positions or "none",
        "cash": _cash(report),
        "journal and broker": "agree" if report["agreed"] else f"**differ** on {', '.join(report['differing'])}",
        "trading": f"**halted**: {report['halted_for']}" if report["halted_for"] else "not halted",
    }
    head = f"# {account}: {report['day']}{'' if report['ended'] else ', up to the end of the run'}"
    return "\n".join([head, "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""])


def _elsewhere(fees: dict[str, Decimal]) -> str:
    told = ", ".join(f"{fee:f} {asset}" for asset, fee in sorted(fees.items()))
    return f", and {told} that no profit is told after" if told else ""


def _cash(report: dict[str, Any]) -> str:
    if report["cash"] is None:
        return "the broker does not tell"
    if report["cash_expected"] is None:
        return f"{report['cash']:.2f}"
    return f"{report['cash']:.2f}, the fills make {report['cash_expected']:.2f}"

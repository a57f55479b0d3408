"""What a live flow says of its account, for a terminal: what it may do, what it holds, what is open or in doubt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

#: How a state is coloured: green trades, yellow waits or only closes, red needs a person.
_COLOURS = {"active": "green", "reducing": "yellow", "reconciling": "yellow", "halted": "red"}


def trading(told: Mapping[str, Any]) -> Group:
    """Return the account's state in words, its positions, and the orders that have not ended."""
    colour = _COLOURS.get(told["state"], "red")
    money = "REAL MONEY" if told["live"] else "paper money"
    doubt = told["in_doubt"]
    counted = f"{len(told['working'])} orders open, {len(doubt)} in doubt"
    profit = _figure(told["profit"]["net"], signed=True)
    lines: list[RenderableType] = [
        f"Trading: [{colour}]{told['state'].upper()}[/]: {told['why']}",
        f"Account: {told['account']} at {told['broker']}, {money}; equity {_figure(told['equity'])}, profit {profit}; "
        f"{counted}",
    ]
    held = [one for one in told["positions"] if one["quantity"]]
    if held:
        lines.append(_positions(held, {one["symbol"]: one["wants"] for one in told["strategies"]}))
    if told["working"]:
        lines.append(_orders(told["working"], set(doubt)))
    return Group(*lines)


def _positions(held: list[Mapping[str, Any]], wants: Mapping[str, str]) -> Table:
    shown = Table("position", title="Positions", title_justify="left")
    for name in ("held", "bought at", "price", "unrealised", "realised"):
        shown.add_column(name, justify="right")
    shown.add_column("strategy wants")
    for one in held:
        figures = [_figure(one[name]) for name in ("quantity", "average_price", "price")]
        profit = [_figure(one[name], signed=True) for name in ("unrealised", "realised")]
        shown.add_row(one["symbol"], *figures, *profit, wants.get(one["symbol"], ""))
    return shown


def _orders(working: list[Mapping[str, Any]], doubt: set[str]) -> Table:
    shown = Table("open order", "symbol", "side", title="Open orders", title_justify="left")
    for name in ("quantity", "filled", "price"):
        shown.add_column(name, justify="right")
    shown.add_column("status")
    for one in working:
        price = "market" if one["limit_price"] is None else _figure(one["limit_price"])
        cancelling = ", being cancelled" if one["pending"] == "cancel" else ""
        status = f"[red]{one['status']}[/]" if one["id"] in doubt else one["status"]
        figures = _figure(one["quantity"]), _figure(one["filled"]), price
        shown.add_row(one["id"], one["symbol"], one["side"], *figures, status + cancelling)
    return shown


def _figure(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "unknown"
    return f"{value:+,.2f}" if signed else f"{value:,.8g}" if abs(value) < 1e4 else f"{value:,.2f}"

"""Exits are finished: what a closing order left open is asked for again between bars, not only at the next close."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from flows.trading_proposal import Proposal

if TYPE_CHECKING:
    from flows.signals import StrategyDriver

#: Seconds until the rest of an exit is asked for again: doubled while nothing comes of it. One order of all symbols at
#: a time, so that they stay within six a minute, and the limit of a strategy's orders is left to its signals.
AGAIN_S, LONGEST_S = 10.0, 80.0


class Closing(Protocol):
    """What an exit sees of the account."""

    def position(self, symbol: str) -> Decimal:
        """Return what is held of a symbol in the broker's spelling."""
        ...

    def price(self, symbol: str) -> Decimal | None:
        """Return what it trades at, None where nobody vouches for a price."""
        ...

    def may_close(self, symbol: str) -> bool:
        """Return whether a closing order can be sent now: nothing of the symbol is under way or was refused."""
        ...


@dataclass(slots=True)
class Exit:
    """One symbol's position that its strategy does not want.

    Attributes:
        driver: The strategy.
        symbol: In the broker's spelling.
        left: What was held when it was looked at last.
        wait_s: Until it is asked for again.
        since: From when on that is counted, monotonic; None while nothing is to be closed.
    """

    driver: StrategyDriver
    symbol: str
    left: Decimal = Decimal(0)
    wait_s: float = AGAIN_S
    since: float | None = None

    def look(self, held: Decimal, now_s: float) -> bool:
        """Look at what is held; return whether to ask for the rest now."""
        if self.driver.last is None or not self.driver.last.wants_out_of(held):
            self.since = None
            return False
        if self.since is None or held != self.left:
            self.left, self.wait_s, self.since = held, AGAIN_S, now_s
        return now_s - self.since >= self.wait_s

    def asked(self, now_s: float) -> None:
        """Wait twice as long the next time."""
        self.since, self.wait_s = now_s, min(2 * self.wait_s, LONGEST_S)


def unfinished(exits: Iterable[Exit], account: Closing, now_s: float, at: datetime) -> Proposal | None:
    """Return the order for the rest of one exit that has waited long enough, None where there is none.

    Args:
        exits: Of every symbol.
        account: Where they are held.
        now_s: Monotonic.
        at: The wall clock.
    """
    for one in exits:
        held, price = account.position(one.symbol), account.price(one.symbol)
        if one.look(held, now_s) and price is not None and account.may_close(one.symbol):
            one.asked(now_s)
            proposal = one.driver.finish(held, price, at)
            if proposal is not None:
                return proposal
    return None

"""The transition table of an order, as data: what every event means in every state.

Read a row as "when this is learned", a column as "and the order stands here". A cell is the next state, or

====  =========================================================================================
``=``  nothing changes
``-``  this cannot happen: recorded as an anomaly, the order stays as it is
``?``  nothing changes, and the broker is asked about the order
``!``  the broker knows better: the order comes back to life where the broker says it is
====  =========================================================================================

The rules behind it, with what other systems do: FIX 5.0 SP2 appendix D (a fill after a cancel counts and keeps the
status; filled wins over cancelled), and docs/orders.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tasks.orders.order import Status


class Happening(StrEnum):
    """The kinds of event that can reach an order."""

    RISK_DENIED = "risk_denied"
    SUBMIT_INTENDED = "submit_intended"
    NOT_SENT = "not_sent"
    OUTCOME_UNKNOWN = "outcome_unknown"
    ACKED_PENDING = "acked_pending"
    ACKED = "acked"
    FILLED_PART = "filled_part"
    FILLED_ALL = "filled_all"
    FILLED_OVER = "filled_over"
    BUSTED = "busted"
    CANCEL_REQUESTED = "cancel_requested"
    CANCEL_ACKED = "cancel_acked"
    CANCEL_REFUSED = "cancel_refused"
    REPLACE_REQUESTED = "replace_requested"
    REPLACED = "replaced"
    REPLACE_REFUSED = "replace_refused"
    EXPIRED = "expired"
    REJECTED = "rejected"
    NOT_FOUND = "not_found"
    PROVED_ABSENT = "proved_absent"


COLUMNS = (
    Status.INITIALIZED,
    Status.DENIED,
    Status.SUBMITTING,
    Status.IN_DOUBT,
    Status.PENDING_NEW,
    Status.ACCEPTED,
    Status.PARTIALLY_FILLED,
    Status.FILLED,
    Status.CANCELED,
    Status.EXPIRED,
    Status.REJECTED,
    Status.NOT_PLACED,
)

#: The columns, in order: initialized, denied, submitting, in doubt, pending new, accepted, partially filled, filled,
#: canceled, expired, rejected, not placed.
_ROWS = """
risk_denied       denied     - -           -           -          -        -        -       -        -       - -
submit_intended   submitting - -           -           -          -        -        -       -        -       - -
not_sent          denied     - not_placed  ?           -          -        -        -       -        -       - -
outcome_unknown   -          - in_doubt    =           =          =        =        =       =        =       = =
acked_pending     -          ! pending_new pending_new =          =        =        =       =        =       ! !
acked             -          ! accepted    accepted    accepted   =        =        =       =        =       ! !
filled_part       -          ! part        part        part       part     part     -       canceled expired ! !
filled_all        -          ! filled      filled      filled     filled   filled   -       filled   filled  ! !
filled_over       -          ! filled      filled      filled     filled   filled   filled  filled   filled  ! !
busted            -          - -           -           -          -        recount  recount canceled expired - -
cancel_requested  canceled   = =           =           =          =        =        =       =        =       = =
cancel_acked      -          = canceled    canceled    canceled   canceled canceled =       =        =       = =
cancel_refused    -          - ?           ?           ?          ?        ?        =       =        =       = =
replace_requested -          = =           =           =          =        =        =       =        =       = =
replaced          -          - -           recount     recount    recount  recount  recount -        -       - -
replace_refused   -          - ?           ?           ?          ?        ?        =       =        =       = =
expired           -          - expired     expired     expired    expired  expired  =       =        =       = =
rejected          -          - rejected    rejected    rejected   rejected ?        -       -        -       = rejected
not_found         -          - =           =           =          ?        ?        =       =        =       = =
proved_absent     -          - not_placed  not_placed  not_placed in_doubt canceled =       =        =       = =
"""

_NAMES = {"part": Status.PARTIALLY_FILLED} | {status.value: status for status in Status}


@dataclass(frozen=True, slots=True)
class Cell:
    """What one event means in one state.

    Attributes:
        status: The next state, None where it stays.
        anomaly: It cannot happen; recorded, nothing changes.
        query: The broker is asked about the order.
        resurrect: The broker knows better: the order comes back to life.
        recount: The next state follows from the fills and the quantity.
    """

    status: Status | None = None
    anomaly: bool = False
    query: bool = False
    resurrect: bool = False
    recount: bool = False


_SIGNS = {
    "=": Cell(),
    "-": Cell(anomaly=True),
    "?": Cell(query=True),
    "!": Cell(resurrect=True),
    "recount": Cell(recount=True),
}


def _parse() -> dict[tuple[Happening, Status], Cell]:
    table = {}
    for line in _ROWS.strip().splitlines():
        name, *cells = line.split()
        for status, cell in zip(COLUMNS, cells, strict=True):
            table[Happening(name), status] = _SIGNS[cell] if cell in _SIGNS else Cell(status=_NAMES[cell])
    return table


#: Every event in every state.
TRANSITIONS: dict[tuple[Happening, Status], Cell] = _parse()

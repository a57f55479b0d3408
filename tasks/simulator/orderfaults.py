"""What goes wrong between a client and the matching engine, and how sure a client may be of its ids."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.errors import InputError
from tasks.simulator.faults import check_probabilities

UNIQUENESS = ("lifetime", "open", "none")


@dataclass(frozen=True, slots=True)
class OrderFaults:
    """Faults of order entry; names that end in ``_p`` are probabilities of a request, all zero by default.

    Whether one strikes depends on the seed, the client order id and how often that id was sent.

    Attributes:
        seed: Decides what is struck.
        uniqueness: Which client order ids are refused: used ever (``lifetime``), by an open order (``open``) or none.
        ghost_p: The gateway holds the request for `ghost_s` and executes it even if the client is gone by then.
        ghost_s: How long, at most; each ghost draws its own delay.
        lost_reply_p: Executed; the connection is cut instead of a reply.
        late_reply_p: Executed at once; the reply comes after `late_reply_s`.
        late_reply_s: How long it takes.
        error_after_p: Executed; the reply is a 5xx.
        throttle_after_p: Executed; the reply is 429 with code 3001.
        reset_body_p: Executed; the reply is reset in the middle of its body.
        error_before_p: Not executed; the reply is a 5xx all the same.
        reject_p: Not executed; rejected for good with code 6003.
        late_ack_p: The private stream tells of the order's fills before it tells of the order.
        duplicate_fill_p: The private stream tells of a fill twice.
        reorder_fills_p: The private stream tells of an order's fills in reverse.
        lose_push_p: The private stream does not tell of something.
        late_fill_p: After a cancel was acknowledged, a fill of half the rest arrives; the order stays cancelled.
        open_lag_s: The open-orders endpoint shows the past.
        query_lag_s: The query by id shows the past.
        deadlines: Whether `timestamp` and `recv_window` are honoured; some brokers know no deadline.
        client_ids: Whether an order can be asked for, and cancelled, by its client order id.
        retention_s: A terminal order is forgotten by query and history after so long; None for never.
    """

    seed: int = 0
    uniqueness: str = "lifetime"
    ghost_p: float = 0.0
    ghost_s: float = 0.12
    lost_reply_p: float = 0.0
    late_reply_p: float = 0.0
    late_reply_s: float = 1.0
    error_after_p: float = 0.0
    throttle_after_p: float = 0.0
    reset_body_p: float = 0.0
    error_before_p: float = 0.0
    reject_p: float = 0.0
    late_ack_p: float = 0.0
    duplicate_fill_p: float = 0.0
    reorder_fills_p: float = 0.0
    lose_push_p: float = 0.0
    late_fill_p: float = 0.0
    open_lag_s: float = 0.0
    query_lag_s: float = 0.0
    deadlines: bool = True
    client_ids: bool = True
    retention_s: float | None = None

    def __post_init__(self) -> None:
        check_probabilities(self)
        if self.uniqueness not in UNIQUENESS:
            raise InputError(f"uniqueness: expected one of {' '.join(UNIQUENESS)}, found {self.uniqueness!r}")

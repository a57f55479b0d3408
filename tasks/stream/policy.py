"""Every wait, limit and threshold of the live connection, with the reason for its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tasks.stream.messages import Channel


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """Limits of one connection; every duration in seconds of the monotonic clock.

    Attributes:
        connect_timeout_s: For DNS, TCP, TLS and the upgrade together.
        close_timeout_s: For the close handshake; then the transport is aborted. A stop must end within 20 s.
        ping_every_s: The vendor's own example pings each second.
        dead_after_s: Neither pong nor any other frame for this long means a dead link: five missed pings.
        ack_timeout_s: For the answer to one subscribe command.
        ack_attempts: Unanswered tries of one command before the connection is given up.
        symbols_per_command: A refusal then costs at most this many symbols a closer look.
        plan_subscriptions: What the plan allows; more is not asked for.
        backoff_base_s: Mean of the first wait is half of it (full jitter).
        backoff_cap_s: Longest ceiling of a wait.
        stable_after_s: Flowing data for this long makes a connection good and forgets its failures. Resetting on a
            mere handshake makes an accept-then-close server loop at the base delay.
        connects_per_window, connect_window_s: Ceiling on attempts whatever the backoff drew.
        lockout_wait_s: After 3003 with nothing to reap: a server needs up to 90 s to notice a dead peer.
        penalty_wait_s: After 3001 without a Retry-After.
        quota_wait_s: After 3002, whose reset the vendor does not name.
        oversize_limit: Connections lost to oversized frames in a row before a person is asked.
        silence_floor_s: By channel, the least silence that may count as stale; trades of a quiet symbol are rare.
        silence_factor: Stale means this many usual inter-arrival times.
        silence_cap_s: However rare a symbol's messages, more silence than this is stale.
        recycle_every_s: One silent subscription among delivering ones reconnects at most this often.
        skew_alarm_ms: Clock offset worth telling a person.
    """

    connect_timeout_s: float = 10.0
    close_timeout_s: float = 5.0
    ping_every_s: float = 1.0
    dead_after_s: float = 5.0
    ack_timeout_s: float = 5.0
    ack_attempts: int = 3
    symbols_per_command: int = 50
    plan_subscriptions: int = 5000
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 60.0
    stable_after_s: float = 60.0
    connects_per_window: int = 30
    connect_window_s: float = 300.0
    lockout_wait_s: float = 90.0
    penalty_wait_s: float = 60.0
    quota_wait_s: float = 3600.0
    oversize_limit: int = 3
    silence_floor_s: Mapping[Channel, float] = field(
        default_factory=lambda: MappingProxyType({"depth": 10.0, "ticker": 10.0, "trade": 60.0})
    )
    silence_factor: float = 20.0
    silence_cap_s: float = 300.0
    recycle_every_s: float = 900.0
    skew_alarm_ms: float = 500.0

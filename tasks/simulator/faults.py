"""What can go wrong, as one value, and the dice that decide when it does.

Nothing here is drawn from a running generator: whether a fault strikes is a function of the seed, the fault and what
it would strike (a bar, or the n-th ask of one request). So the order in which concurrent requests arrive changes
nothing, and a repeated run meets the same faults.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from datetime import datetime

import numpy as np

from tasks.errors import InputError

#: Faults of single bars that heal when the bar is asked for again.
HEALING = ("missing_p", "revise_p")
#: Faults of single bars that stay whatever the client asks: only quality can catch them.
LASTING = ("lost_p", "duplicate_p", "blank_p", "inverted_p", "negative_p", "spike_p", "frozen_p")
#: Faults of whole answers.
ANSWERS = ("storm_p", "server_error_p", "drop_p", "truncate_p")


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong and how often; names that end in ``_p`` are probabilities, all zero by default.

    Attributes:
        seed: Decides what is struck.
        latency_s: Every answer waits this long.
        jitter_s: And up to this much longer.
        storm_p: A request starts a storm: it and the next ones are answered 429, code 3001.
        storm_requests: How many requests a storm refuses.
        retry_after_s: What the storm's ``Retry-After`` says.
        retry_after_as_date: It says so as an HTTP date instead of seconds.
        server_error_p: A request is answered 5xx, with code 5000, 5001 or 5002.
        drop_p: The connection is cut before the answer.
        truncate_p: The body ends in the middle; half of the time Content-Length promises the rest.
        code: Every request is answered with this vendor code.
        missing_p: A bar is left out the first time it would be served.
        revise_p: A bar has provisional values the first time it is served.
        lost_p: A bar is never served.
        duplicate_p: A bar is served twice in one page.
        blank_p: A bar's close is null, an empty string or ``NaN``.
        inverted_p: A bar's high and low are swapped, the high strictly below the low.
        negative_p: A bar's volume is negative.
        spike_p: A bar's high and close are ten times too high.
        frozen_p: From a bar on, the price stands still for `frozen_bars` bars.
        frozen_bars: How long it stands still.
        shuffle_p: A page's bars come in an arbitrary order.
        forming_p: A page whose range reaches the bar still being formed serves it as though it were complete.
    """

    seed: int = 0
    latency_s: float = 0.0
    jitter_s: float = 0.0
    storm_p: float = 0.0
    storm_requests: int = 5
    retry_after_s: int = 1
    retry_after_as_date: bool = False
    server_error_p: float = 0.0
    drop_p: float = 0.0
    truncate_p: float = 0.0
    code: int | None = None
    missing_p: float = 0.0
    revise_p: float = 0.0
    lost_p: float = 0.0
    duplicate_p: float = 0.0
    blank_p: float = 0.0
    inverted_p: float = 0.0
    negative_p: float = 0.0
    spike_p: float = 0.0
    frozen_p: float = 0.0
    frozen_bars: int = 30
    shuffle_p: float = 0.0
    forming_p: float = 0.0

    def __post_init__(self) -> None:
        check_probabilities(self)

    @property
    def touches_bars(self) -> bool:
        """Whether a page may differ from the truth."""
        return any(getattr(self, name) for name in (*HEALING, *LASTING, "shuffle_p", "forming_p"))


#: How a stream's connection can end or fall silent; see `StreamFaults`.
ENDINGS = ("rst", "fin", "close", "mid_frame", "half_open", "silent", "silent_pong", "accept_close")


@dataclass(frozen=True, slots=True)
class StreamFaults:
    """What goes wrong on the WebSocket; names that end in ``_p`` are probabilities of a message, all zero by default.

    Attributes:
        seed: Decides what is struck.
        endings: Ways for connections to end, of `ENDINGS`; each new connection draws one. ``rst`` and ``fin`` cut
            it, ``close`` says goodbye with code 1001, ``mid_frame`` cuts it inside a frame, ``half_open`` answers
            nothing any more, not even a close, ``silent`` answers a close only, ``silent_pong`` pings too,
            ``accept_close`` closes right after the handshake.
        ending_after_frames: A connection ends after about so many messages (between one and twice as many).
        drop_ack_p: The answer to a subscribe or unsubscribe is not sent; the command is obeyed.
        bare_channels: Channels that push stocks without their market suffix.
        crossed_p: A book's best bid is above its best ask.
        garbage_p: A frame of nonsense follows the message: broken JSON, wrong types, an unknown command, raw bytes.
        oversize_p: A frame of `oversize_bytes` follows the message.
        oversize_bytes: Its size.
        repeat: Every message is sent so many times: doubles to be told apart, or a flood for a benchmark.
        drip_bytes: So many bytes are written at a time, `drip_s` apart; 0 writes whole frames.
        drip_s: The pause between two drips.
        skew_ms: The server's clock runs so far ahead: pongs and data carry it.
        zombie_s: A connection that was cut still counts for the plan's limit for so long.
        connect_code: Every new connection is refused with this vendor code.
        command_code: Every command but ping is answered with this vendor code.
        channels_down: Channels that are unavailable: depth answers 4003, trade 4004.
    """

    seed: int = 0
    endings: tuple[str, ...] = ()
    ending_after_frames: int = 20
    drop_ack_p: float = 0.0
    bare_channels: tuple[str, ...] = ()
    crossed_p: float = 0.0
    garbage_p: float = 0.0
    oversize_p: float = 0.0
    oversize_bytes: int = 5 * 1024 * 1024
    repeat: int = 1
    drip_bytes: int = 0
    drip_s: float = 0.001
    skew_ms: int = 0
    zombie_s: float = 0.0
    connect_code: int | None = None
    command_code: int | None = None
    channels_down: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_probabilities(self)
        unknown = set(self.endings) - set(ENDINGS)
        if unknown:
            raise InputError(f"endings: expected some of {' '.join(ENDINGS)}, found {' '.join(sorted(unknown))}")

    @property
    def touches_messages(self) -> bool:
        """Whether a message may be spoiled, or followed by something else."""
        return bool(self.crossed_p or self.garbage_p or self.oversize_p)


def check_probabilities(faults: object) -> None:
    """Raise InputError where a field of a dataclass that ends in ``_p`` is no probability."""
    for field in fields(faults):  # type: ignore[arg-type]
        value = getattr(faults, field.name)
        if field.name.endswith("_p") and not 0.0 <= value <= 1.0:
            raise InputError(f"{field.name}: expected a probability in [0, 1], found {value}")


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault that really happened.

    Attributes:
        fault: The field of `Faults` without ``_p``, such as ``missing``.
        target: The request's path and query, or what else was struck.
        symbol: For faults of bars.
        interval: For faults of bars, in the vendor's spelling.
        timestamp: The open of the bar struck.
    """

    fault: str
    target: str
    symbol: str | None = None
    interval: str | None = None
    timestamp: datetime | None = None


def chance(seed: int, fault: str, *what: object) -> float:
    """Return a number in [0, 1) that depends on the arguments alone."""
    return float(chances(seed, fault, repr(what), np.zeros(1, np.int64))[0])


def chances(seed: int, fault: str, what: str, times: np.ndarray) -> np.ndarray:
    """Return for each instant a number in [0, 1) that depends on the arguments and that instant alone."""
    salt = zlib.crc32(f"{fault}:{what}".encode()) | (seed & 0xFFFFFFFF) << 32
    with np.errstate(over="ignore"):  # splitmix64: overflow is how it works
        state = times.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)) / float(1 << 53)

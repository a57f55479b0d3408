"""When data of a subscription is missing: opened at the last moment it was known whole, closed when it flows again.

TCP delivers in order, so a lost connection may have swallowed only what came after its last frame. A subscription that
went silent on a live link is missing from its own last message. A trade subscription is whole again with its
confirmation, a book or a price with its first snapshot.
"""

from __future__ import annotations

from tasks.stream.events import GapBegan, GapEnded, GapReason
from tasks.stream.subscriptions import Topic


def begin(topic: Topic, reason: GapReason, start: float) -> GapBegan | None:
    """Open a gap; None where one is open already, or where the topic never was whole."""
    if topic.gap_start is not None or topic.seen is None:
        return None
    topic.gap_start, topic.gap_reason = start, reason
    return GapBegan(topic.channel, topic.symbol, reason, start)


def end(topic: Topic, at: float) -> GapEnded | None:
    """Close the open gap; None where none is open."""
    if topic.gap_start is None:
        return None
    start, topic.gap_start = topic.gap_start, None
    return GapEnded(topic.channel, topic.symbol, GapReason(topic.gap_reason), start, max(start, at))


def confirmed(topic: Topic, at: float) -> GapEnded | None:
    """Close a lost connection's gap of a trade topic: from its confirmation on every trade is delivered."""
    if topic.channel != "trade":
        return None
    topic.seen = at if topic.seen is None else topic.seen
    return end(topic, at) if topic.gap_reason in (GapReason.LOST, GapReason.NOT_RUNNING) else None


def resume(topic: Topic, last: float) -> None:
    """Open the gap since an earlier run recorded this topic last: a start is a reconnect after a long outage."""
    topic.seen = topic.gap_start = last
    topic.gap_reason = GapReason.NOT_RUNNING


def unfinished(topic: Topic, at: float) -> GapEnded | None:
    """Return the open gap as far as `at`, for a record that ends here; it stays open."""
    if topic.gap_start is None:
        return None
    return GapEnded(topic.channel, topic.symbol, GapReason(topic.gap_reason), topic.gap_start, max(topic.gap_start, at))

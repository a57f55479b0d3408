"""Orders go before ticks, and ticks never wait for long."""

from __future__ import annotations

import asyncio

from tasks.stream.way import LONGEST_S, Way


async def test_ticks_wait_until_the_last_request_left() -> None:
    """With two takers, the first one's leaving frees nothing; the second's does."""
    way = Way(clock=lambda: 0.0)
    await way.clear()
    way.take()
    way.take()
    ticks = asyncio.create_task(way.clear())
    await asyncio.sleep(0)
    way.leave()
    await asyncio.sleep(0)
    assert not ticks.done()
    way.leave()
    await ticks


async def test_ticks_go_on_by_themselves() -> None:
    """A request that never leaves holds them for `LONGEST_S`, whoever else takes the way meanwhile."""
    now = [0.0]
    way = Way(clock=lambda: now[0])
    way.take()
    async with asyncio.timeout(60):
        await way.clear()  # by the loop's own time
    now[0] = LONGEST_S
    way.take()
    ticks = asyncio.create_task(way.clear())
    await asyncio.sleep(0)
    assert ticks.done()


async def test_a_new_request_takes_the_way_anew() -> None:
    """Once everything left, the next one counts from its own beginning."""
    now = [0.0]
    way = Way(clock=lambda: now[0])
    way.take()
    now[0] = LONGEST_S
    way.leave()
    way.take()
    ticks = asyncio.create_task(way.clear())
    await asyncio.sleep(0)
    assert not ticks.done()
    way.leave()
    await ticks

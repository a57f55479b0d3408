"""Alerts reach a person through Prefect's notification blocks, once, and a broken messenger stops nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flows.live_alerts import MAX_WAITING, AlertSender
from tasks.errors import ConfigurationError
from tasks.stream.monitor import Alert

ALERT = Alert("BTCUSDT:buy:1000", "BTCUSDT", "buy", 3.25, 2.5, 1_000, 1.0)


class Messenger:
    """A block that notes what it is given, or breaks."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.told: list[tuple[str, str]] = []
        self.called = asyncio.Event()

    async def notify(self, body: str, subject: str) -> None:
        """Note a message, or break."""
        self.called.set()
        if self.broken:
            raise RuntimeError("https://hooks.example/secret-path is down")
        self.told.append((subject, body))


async def sender_with(*blocks: Any) -> AlertSender:
    """Return a sender that is given blocks instead of names."""
    sender = AlertSender([])
    await sender.__aenter__()
    sender._blocks.extend(blocks)
    return sender


async def test_an_alert_is_sent_once_to_every_block(capsys) -> None:
    """Subject and body name symbol, side, ratio and episode; one broken block does not keep the other from it."""
    broken, working = Messenger(broken=True), Messenger()
    sender = await sender_with(broken, working)
    sender.tell(ALERT)
    await asyncio.wait_for(working.called.wait(), 30.0)
    await sender.__aexit__(None, None, None)
    assert working.told == [("BTCUSDT: buy pressure", "Ratio 3.25 beyond 2.5; episode BTCUSDT:buy:1000.")]
    assert (sender.sent, sender.failed) == (1, 1)
    assert "secret-path" not in capsys.readouterr().out


async def test_the_end_of_a_run_waits_for_its_last_words(monkeypatch, capsys) -> None:
    """What was told just before the end is sent, for some seconds at most; what hangs then is counted and logged."""
    working = Messenger()
    sender = await sender_with(working)
    sender.call("paper: trading halted", "a person said so")
    await sender.__aexit__(None, None, None)
    assert working.told == [("paper: trading halted", "a person said so")]
    monkeypatch.setattr("flows.live_alerts.LAST_WORDS_S", 0.02)
    hanging = Messenger()
    monkeypatch.setattr(hanging, "notify", lambda *told: asyncio.Event().wait())
    sender = await sender_with(hanging)
    for _ in range(3):
        sender.call("paper: trading halted", "a person said so")
    await asyncio.wait_for(sender.__aexit__(None, None, None), 60.0)
    assert (sender.sent, sender.failed) == (0, 3)
    assert "alerts.not_sent" in capsys.readouterr().out


async def test_a_slow_messenger_delays_nobody() -> None:
    """The queue is bounded; what does not fit is counted and logged."""
    sender = AlertSender([])
    sender._blocks.append(Messenger())
    for _ in range(MAX_WAITING + 7):
        sender.tell(ALERT)
    assert sender.failed == 7


async def test_a_halt_waits_behind_no_pressure(capsys) -> None:
    """However many alerts of pressure a slow messenger has left waiting, a halt is sent next, and is never refused."""
    messenger = Messenger()
    sender = AlertSender([])
    sender._blocks.append(messenger)
    for _ in range(MAX_WAITING + 7):
        sender.tell(ALERT)
    sender.call("paper: trading halted", "a person said so")
    sender.call("stream: outage lasting", "no data for 60 s")
    assert sender.failed == 7
    await sender.__aenter__()
    await sender.__aexit__(None, None, None)
    assert [subject for subject, _ in messenger.told[:3]] == [
        "paper: trading halted",
        "stream: outage lasting",
        "BTCUSDT: buy pressure",
    ]
    assert sender.sent == MAX_WAITING + 2
    assert capsys.readouterr().out.count("alert.not_sent") == 7


async def test_a_real_apprise_block_delivers(orchestrated: str) -> None:
    """A block saved in Prefect and named in the flow's parameters posts to its address."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(
            int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length")
        )
        received.put_nowait(await reader.readexactly(size))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    block = CustomWebhookNotificationBlock(
        name="ops", url=f"http://127.0.0.1:{port}/", json_data={"text": "{{subject}} {{body}}"}
    )
    await block.save("live-ops", overwrite=True)
    async with AlertSender([f"{block.get_block_type_slug()}/live-ops"]) as sender:
        sender.tell(ALERT)
        body = await asyncio.wait_for(received.get(), 60.0)
    listening.close()
    assert b"BTCUSDT: buy pressure" in body
    assert b"Ratio 3.25" in body


async def test_an_unknown_block_is_named(orchestrated: str) -> None:
    """A block that does not exist ends the flow before it begins, with its name."""
    with pytest.raises(ConfigurationError, match="slack-webhook/nobody"):
        async with AlertSender(["slack-webhook/nobody"]):
            pass

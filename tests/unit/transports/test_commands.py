"""WebSocket commands: view, pause and resume, seek, ping; each answered where it takes effect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.harness import Clock, OpenHarness

from ...support.async_client import Closed
from ...support.command_client import CommandClient, position
from ...support.events import Gap, Reset, Tick, notices, ticks
from ...support.frames import BINARY
from ...support.harness import Harness

# ---- view ----


async def test_view_takes_effect_where_it_is_answered(harness: Harness) -> None:
    await harness.publish_all(range(10))
    client = await CommandClient.open(harness, "from_t=A:-1")
    await client.tick(9)
    client.say(op="view", every=5, fields=["x"], id=7)
    ok = await client.reply(ok=7)
    assert ok == {"ok": 7, "at": "A:9"}
    harness.publish(range(10, 21))
    await client.tick(20)
    harness.ledger.check(client.before(ok), after=("A", -1), upto=("A", 9))
    assert [json.loads(e.data) for e in client.behind(ok) if isinstance(e, Tick)] == [
        {"t": t, "x": 1.5} for t in (10, 15, 20)
    ]


async def test_view_in_the_middle_of_a_replay(open_harness: OpenHarness) -> None:
    """However much is under way: what lies before the answer is in the old view, what lies behind it in the new."""
    harness = await open_harness(small=True)
    await harness.publish_all(range(300), size=2000)
    client = await CommandClient.open(harness, "from_t=A:-1", small=True)
    client.say(op="view", every=2, id="v")
    ok = await client.reply(ok="v")
    harness.publish([300])
    await client.tick(300)
    at = position(ok["at"])
    harness.ledger.check(client.before(ok), after=("A", -1), upto=at)
    harness.ledger.check(client.behind(ok), after=at, every=2)


async def test_view_replaces_the_whole_view(harness: Harness) -> None:
    await harness.publish_all(range(10))
    client = await CommandClient.open(harness, "tail=0&every=3&stamp=1&fields=x")
    client.say(op="view", id=1)
    ok = await client.reply(ok=1)
    harness.publish(range(10, 20))
    await client.tick(19)
    harness.ledger.check(client.behind(ok), after=("A", 9))


@pytest.mark.parametrize("batch", [3, 1000])
async def test_view_with_batch(harness: Harness, batch: int) -> None:
    harness.set_flush_policy(batch_seconds=0.05)
    await harness.publish_all(range(3))
    client = await CommandClient.open(harness, "from_t=A:-1")
    await client.tick(2)
    client.say(op="view", batch=batch, stamp=True, id=1)
    ok = await client.reply(ok=1)
    await harness.publish_all(range(3, 9))
    await client.tick(8)
    assert ticks(client.behind(ok)) == [3, 4, 5, 6, 7, 8]
    client.say(op="view", id=2)
    ok = await client.reply(ok=2)
    assert ok["at"] == "A:8"
    await harness.publish_all([9])
    await client.tick(9)
    harness.ledger.check(client.behind(ok), after=("A", 8))


async def test_a_command_without_an_id_is_not_answered(harness: Harness) -> None:
    await harness.publish_all(range(3))
    client = await CommandClient.open(harness, "tail=0")
    client.say(op="view", every=2)
    client.say(op="ping", id=1)
    await client.reply(pong=1)
    harness.publish(range(3, 9))
    await client.tick(8)
    assert ticks(client.events) == [4, 6, 8]
    assert len([message for message in client.messages if isinstance(message, dict)]) == 1


# ---- pause and resume ----


async def test_nothing_is_lost_by_a_pause(harness: Harness) -> None:
    await harness.publish_all(range(5))
    client = await CommandClient.open(harness, "from_t=A:-1")
    await client.tick(4)
    client.say(op="pause", id="p")
    paused = await client.reply(ok="p")
    assert paused["at"] == "A:4"
    await harness.publish_all(range(5, 50), "A")
    await harness.publish_all(range(5), "B")
    client.say(op="ping", id=1)
    await client.reply(pong=1)
    client.say(op="resume", id="r")
    resumed = await client.reply(ok="r")
    assert resumed["at"] == "A:4"
    assert not [e for e in client.behind(paused) if e not in client.behind(resumed)], "nothing came during the pause"
    await client.tick(4, "B")
    harness.ledger.check(client.events, after=("A", -1))


async def test_a_long_pause_is_a_gap(open_harness: OpenHarness) -> None:
    harness = await open_harness(ring=20)
    await harness.publish_all(range(5))
    client = await CommandClient.open(harness, "from_t=A:-1")
    await client.tick(4)
    client.say(op="pause", id="p")
    await client.reply(ok="p")
    await harness.publish_all(range(5, 100))
    client.say(op="resume")
    await client.tick(99)
    harness.ledger.check(client.events, after=("A", -1))
    assert notices(client.events) == [Gap("A", 4, 80)]


async def test_pause_and_resume_again_and_again(harness: Harness) -> None:
    await harness.publish_all(range(5))
    client = await CommandClient.open(harness, "from_t=A:-1")
    for turn in range(5):
        client.say(op="pause", id=turn)
        client.say(op="pause")
        await client.reply(ok=turn)
        harness.publish(range(5 + turn * 3, 8 + turn * 3))
        client.say(op="resume")
        client.say(op="resume")
    await client.tick(19)
    harness.ledger.check(client.events, after=("A", -1))


async def test_a_paused_reader_is_told_of_the_shutdown(harness: Harness) -> None:
    await harness.publish_all(range(5))
    client = await CommandClient.open(harness, "from_t=A:-1")
    await client.tick(4)
    client.say(op="pause", id="p")
    await client.reply(ok="p")
    await harness.publish_all(range(5, 10))
    await harness.stop_while(_closed(client))
    assert [str(event) for event in notices(client.events)] == ["End(reason='shutdown', position='A:4')"]


# ---- seek ----


@pytest.mark.parametrize(
    ("to", "at", "after"),
    [("A:9", "A:9", 9), ("A:-1", "A:-1", -1), (30, "A:30", 30), ("30", "A:30", 30), (-1, "A:-1", -1)],
)
async def test_seek_goes_on_behind_a_position(harness: Harness, to: object, at: str, after: int) -> None:
    await harness.publish_all(range(50))
    client = await CommandClient.open(harness, "tail=1")
    await client.tick(49)
    client.say(op="seek", from_t=to, id=1)
    ok = await client.reply(ok=1)
    assert ok == {"ok": 1, "at": at}
    await client.tick(49)
    harness.publish([50])
    await client.tick(50)
    harness.ledger.check(client.behind(ok), after=("A", after))


async def test_seek_forwards(harness: Harness) -> None:
    """Whoever asks to be moved knows what lies between: that is no gap."""
    await harness.publish_all(range(50))
    client = await CommandClient.open(harness, "from_t=A:0&speed=0.001")
    client.say(op="seek", from_t="A:44", id=1)
    ok = await client.reply(ok=1)
    await client.tick(49)
    harness.ledger.check(client.behind(ok), after=("A", 44))
    assert not notices(client.behind(ok))


async def test_seek_to_an_older_run_and_to_an_unknown_one(harness: Harness) -> None:
    await harness.publish_all(range(5), "A")
    await harness.publish_all(range(5), "B")
    client = await CommandClient.open(harness, "tail=1")
    await client.tick(4)
    client.say(op="seek", from_t="A:2", id=1)
    ok = await client.reply(ok=1)
    client.run = "A"  # what the reader asked for
    await client.tick(4, "B")
    harness.ledger.check(client.behind(ok)[1:], after=("A", 3))
    client.say(op="seek", from_t="Z:2", id=2)
    ok = await client.reply(ok=2)
    await client.tick(4, "B")
    harness.ledger.check(client.behind(ok), after=("Z", 2))
    assert notices(client.behind(ok)) == [Reset("B", "Z", False)]


async def test_seek_past_retention(open_harness: OpenHarness) -> None:
    harness = await open_harness(ring=20)
    await harness.publish_all(range(50))
    client = await CommandClient.open(harness, "tail=1")
    await client.tick(49)
    client.say(op="seek", from_t="A:9", id=1)
    ok = await client.reply(ok=1)
    await client.tick(49)
    harness.ledger.check(client.behind(ok), after=("A", 9))
    assert notices(client.behind(ok)) == [Gap("A", 9, 30)]


async def test_seek_with_speed(harness: Harness, clock: Clock) -> None:
    for t in range(4):
        harness.publish([t])
        clock.ms += 3_600_000
    await harness.settle()
    client = await CommandClient.open(harness, "tail=1")
    await client.tick(3)
    client.say(op="seek", from_t="A:-1", speed=1, id=1)
    ok = await client.reply(ok=1)
    await client.tick(0)
    client.say(op="seek", from_t="A:0", speed=36000.0, id=2)  # a tick in a tenth of a second
    faster = await client.reply(ok=2)
    await client.tick(3)
    assert ticks(client.behind(ok)) == [0, 1, 2, 3]
    assert ticks(client.behind(faster)) == [1, 2, 3]


async def test_seek_while_paused_stays_paused(harness: Harness) -> None:
    await harness.publish_all(range(50))
    client = await CommandClient.open(harness, "tail=1")
    await client.tick(49)
    client.say(op="pause", id=0)
    client.say(op="seek", from_t="A:44", id=1)
    assert (await client.reply(ok=1))["at"] == "A:44"
    client.say(op="ping", id=2)
    await client.reply(pong=2)
    assert ticks(client.events) == [49]
    client.say(op="resume")
    await client.tick(49)
    assert ticks(client.events) == [49, 45, 46, 47, 48, 49]


async def test_seek_keeps_view_limit_and_run(harness: Harness) -> None:
    await harness.publish_all(range(50), "A")
    await harness.publish_all(range(5), "B")
    client = await CommandClient.open(harness, "run=B&every=2&limit=5")
    await client.tick(4)
    client.say(op="seek", from_t="A:1", id=1)
    assert (await client.error())["id"] == 1, "this reader reads run B alone"
    client.say(op="seek", from_t=1, id=2)
    assert (await client.reply(ok=2))["at"] == "B:1"
    closed = await _closed(client)
    assert ticks(client.events) == [0, 2, 4, 2, 4]
    assert (closed.code, closed.reason) == (1000, "limit B:4")


# ---- ping ----


@pytest.mark.parametrize("ident", [0, 1, "text", 1.5, None, [1], {"a": "é"}])
async def test_ping(harness: Harness, ident: Any) -> None:
    await harness.publish_all(range(5))
    client = await CommandClient.open(harness, "tail=0")
    client.say(op="ping", id=ident)
    assert await client.reply(pong=ident) == {"pong": ident, "tip": 4}


async def test_ping_on_an_empty_bus(harness: Harness) -> None:
    client = await CommandClient.open(harness)
    client.say(op="ping", id=1)
    assert await client.reply(pong=1) == {"pong": 1, "tip": None}


async def test_commands_work_for_a_client_that_gave_no_parameter(harness: Harness) -> None:
    await harness.publish_all(range(5))
    client = await CommandClient.open(harness)
    await client.tick(4)
    client.say(op="view", every=2, id=1)
    ok = await client.reply(ok=1)
    harness.publish(range(5, 9))
    await client.tick(8)
    assert ticks(client.behind(ok)) == [6, 8]


async def test_a_command_in_a_binary_message(harness: Harness) -> None:
    await harness.publish_all(range(5))
    client = await CommandClient.open(harness, "tail=0")
    client.socket.send(b'{"op":"ping","id":1}', BINARY)
    await client.reply(pong=1)


async def _closed(client: CommandClient) -> Closed:
    while True:
        try:
            await client.next()
        except Closed as closed:
            return closed

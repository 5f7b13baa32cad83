"""WebSocket commands: view, pause and resume, seek, ping; each answered where it takes effect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ..support.events import Gap, Reset, Tick, notices, ticks
from ..support.house import House
from ..support.raw import BINARY, Closed
from ..support.talk import Talk, position
from .conftest import Clock, OpenHouse

# ---- view ----


async def test_view_takes_effect_where_it_is_answered(house: House) -> None:
    await house.publish_all(range(10))
    talk = await Talk.open(house, "from_t=A:-1")
    await talk.tick(9)
    talk.say(op="view", every=5, fields=["x"], id=7)
    ok = await talk.reply(ok=7)
    assert ok == {"ok": 7, "at": "A:9"}
    house.publish(range(10, 21))
    await talk.tick(20)
    house.ledger.check(talk.before(ok), after=("A", -1), upto=("A", 9))
    assert [json.loads(e.data) for e in talk.behind(ok) if isinstance(e, Tick)] == [
        {"t": t, "x": 1.5} for t in (10, 15, 20)
    ]


async def test_view_in_the_middle_of_a_replay(open_house: OpenHouse) -> None:
    """However much is under way: what lies before the answer is in the old view, what lies behind it in the new."""
    house = await open_house(small=True)
    await house.publish_all(range(300), size=2000)
    talk = await Talk.open(house, "from_t=A:-1", small=True)
    talk.say(op="view", every=2, id="v")
    ok = await talk.reply(ok="v")
    house.publish([300])
    await talk.tick(300)
    at = position(ok["at"])
    house.ledger.check(talk.before(ok), after=("A", -1), upto=at)
    house.ledger.check(talk.behind(ok), after=at, every=2)


async def test_view_replaces_the_whole_view(house: House) -> None:
    await house.publish_all(range(10))
    talk = await Talk.open(house, "tail=0&every=3&stamp=1&fields=x")
    talk.say(op="view", id=1)
    ok = await talk.reply(ok=1)
    house.publish(range(10, 20))
    await talk.tick(19)
    house.ledger.check(talk.behind(ok), after=("A", 9))


@pytest.mark.parametrize("batch", [3, 1000])
async def test_view_with_batch(house: House, batch: int) -> None:
    house.set_flush_policy(batch_seconds=0.05)
    await house.publish_all(range(3))
    talk = await Talk.open(house, "from_t=A:-1")
    await talk.tick(2)
    talk.say(op="view", batch=batch, stamp=True, id=1)
    ok = await talk.reply(ok=1)
    await house.publish_all(range(3, 9))
    await talk.tick(8)
    assert ticks(talk.behind(ok)) == [3, 4, 5, 6, 7, 8]
    talk.say(op="view", id=2)
    ok = await talk.reply(ok=2)
    assert ok["at"] == "A:8"
    await house.publish_all([9])
    await talk.tick(9)
    house.ledger.check(talk.behind(ok), after=("A", 8))


async def test_a_command_without_an_id_is_not_answered(house: House) -> None:
    await house.publish_all(range(3))
    talk = await Talk.open(house, "tail=0")
    talk.say(op="view", every=2)
    talk.say(op="ping", id=1)
    await talk.reply(pong=1)
    house.publish(range(3, 9))
    await talk.tick(8)
    assert ticks(talk.events) == [4, 6, 8]
    assert len([message for message in talk.messages if isinstance(message, dict)]) == 1


# ---- pause and resume ----


async def test_nothing_is_lost_by_a_pause(house: House) -> None:
    await house.publish_all(range(5))
    talk = await Talk.open(house, "from_t=A:-1")
    await talk.tick(4)
    talk.say(op="pause", id="p")
    paused = await talk.reply(ok="p")
    assert paused["at"] == "A:4"
    await house.publish_all(range(5, 50), "A")
    await house.publish_all(range(5), "B")
    talk.say(op="ping", id=1)
    await talk.reply(pong=1)
    talk.say(op="resume", id="r")
    resumed = await talk.reply(ok="r")
    assert resumed["at"] == "A:4"
    assert not [e for e in talk.behind(paused) if e not in talk.behind(resumed)], "nothing came during the pause"
    await talk.tick(4, "B")
    house.ledger.check(talk.events, after=("A", -1))


async def test_a_long_pause_is_a_gap(open_house: OpenHouse) -> None:
    house = await open_house(ring=20)
    await house.publish_all(range(5))
    talk = await Talk.open(house, "from_t=A:-1")
    await talk.tick(4)
    talk.say(op="pause", id="p")
    await talk.reply(ok="p")
    await house.publish_all(range(5, 100))
    talk.say(op="resume")
    await talk.tick(99)
    house.ledger.check(talk.events, after=("A", -1))
    assert notices(talk.events) == [Gap("A", 4, 80)]


async def test_pause_and_resume_again_and_again(house: House) -> None:
    await house.publish_all(range(5))
    talk = await Talk.open(house, "from_t=A:-1")
    for turn in range(5):
        talk.say(op="pause", id=turn)
        talk.say(op="pause")
        await talk.reply(ok=turn)
        house.publish(range(5 + turn * 3, 8 + turn * 3))
        talk.say(op="resume")
        talk.say(op="resume")
    await talk.tick(19)
    house.ledger.check(talk.events, after=("A", -1))


async def test_a_paused_reader_is_told_of_the_shutdown(house: House) -> None:
    await house.publish_all(range(5))
    talk = await Talk.open(house, "from_t=A:-1")
    await talk.tick(4)
    talk.say(op="pause", id="p")
    await talk.reply(ok="p")
    await house.publish_all(range(5, 10))
    await house.stop_while(_closed(talk))
    assert [str(event) for event in notices(talk.events)] == ["End(reason='shutdown', position='A:4')"]


# ---- seek ----


@pytest.mark.parametrize(
    ("to", "at", "after"),
    [("A:9", "A:9", 9), ("A:-1", "A:-1", -1), (30, "A:30", 30), ("30", "A:30", 30), (-1, "A:-1", -1)],
)
async def test_seek_goes_on_behind_a_position(house: House, to: object, at: str, after: int) -> None:
    await house.publish_all(range(50))
    talk = await Talk.open(house, "tail=1")
    await talk.tick(49)
    talk.say(op="seek", from_t=to, id=1)
    ok = await talk.reply(ok=1)
    assert ok == {"ok": 1, "at": at}
    await talk.tick(49)
    house.publish([50])
    await talk.tick(50)
    house.ledger.check(talk.behind(ok), after=("A", after))


async def test_seek_forwards(house: House) -> None:
    """Whoever asks to be moved knows what lies between: that is no gap."""
    await house.publish_all(range(50))
    talk = await Talk.open(house, "from_t=A:0&speed=0.001")
    talk.say(op="seek", from_t="A:44", id=1)
    ok = await talk.reply(ok=1)
    await talk.tick(49)
    house.ledger.check(talk.behind(ok), after=("A", 44))
    assert not notices(talk.behind(ok))


async def test_seek_to_an_older_run_and_to_an_unknown_one(house: House) -> None:
    await house.publish_all(range(5), "A")
    await house.publish_all(range(5), "B")
    talk = await Talk.open(house, "tail=1")
    await talk.tick(4)
    talk.say(op="seek", from_t="A:2", id=1)
    ok = await talk.reply(ok=1)
    talk.run = "A"  # what the reader asked for
    await talk.tick(4, "B")
    house.ledger.check(talk.behind(ok)[1:], after=("A", 3))
    talk.say(op="seek", from_t="Z:2", id=2)
    ok = await talk.reply(ok=2)
    await talk.tick(4, "B")
    house.ledger.check(talk.behind(ok), after=("Z", 2))
    assert notices(talk.behind(ok)) == [Reset("B", "Z", False)]


async def test_seek_past_retention(open_house: OpenHouse) -> None:
    house = await open_house(ring=20)
    await house.publish_all(range(50))
    talk = await Talk.open(house, "tail=1")
    await talk.tick(49)
    talk.say(op="seek", from_t="A:9", id=1)
    ok = await talk.reply(ok=1)
    await talk.tick(49)
    house.ledger.check(talk.behind(ok), after=("A", 9))
    assert notices(talk.behind(ok)) == [Gap("A", 9, 30)]


async def test_seek_with_speed(house: House, clock: Clock) -> None:
    for t in range(4):
        house.publish([t])
        clock.ms += 3_600_000
    await house.settle()
    talk = await Talk.open(house, "tail=1")
    await talk.tick(3)
    talk.say(op="seek", from_t="A:-1", speed=1, id=1)
    ok = await talk.reply(ok=1)
    await talk.tick(0)
    talk.say(op="seek", from_t="A:0", speed=36000.0, id=2)  # a tick in a tenth of a second
    faster = await talk.reply(ok=2)
    await talk.tick(3)
    assert ticks(talk.behind(ok)) == [0, 1, 2, 3]
    assert ticks(talk.behind(faster)) == [1, 2, 3]


async def test_seek_while_paused_stays_paused(house: House) -> None:
    await house.publish_all(range(50))
    talk = await Talk.open(house, "tail=1")
    await talk.tick(49)
    talk.say(op="pause", id=0)
    talk.say(op="seek", from_t="A:44", id=1)
    assert (await talk.reply(ok=1))["at"] == "A:44"
    talk.say(op="ping", id=2)
    await talk.reply(pong=2)
    assert ticks(talk.events) == [49]
    talk.say(op="resume")
    await talk.tick(49)
    assert ticks(talk.events) == [49, 45, 46, 47, 48, 49]


async def test_seek_keeps_view_limit_and_run(house: House) -> None:
    await house.publish_all(range(50), "A")
    await house.publish_all(range(5), "B")
    talk = await Talk.open(house, "run=B&every=2&limit=5")
    await talk.tick(4)
    talk.say(op="seek", from_t="A:1", id=1)
    assert (await talk.error())["id"] == 1, "this reader reads run B alone"
    talk.say(op="seek", from_t=1, id=2)
    assert (await talk.reply(ok=2))["at"] == "B:1"
    closed = await _closed(talk)
    assert ticks(talk.events) == [0, 2, 4, 2, 4]
    assert (closed.code, closed.reason) == (1000, "limit B:4")


# ---- ping ----


@pytest.mark.parametrize("ident", [0, 1, "text", 1.5, None, [1], {"a": "é"}])
async def test_ping(house: House, ident: Any) -> None:
    await house.publish_all(range(5))
    talk = await Talk.open(house, "tail=0")
    talk.say(op="ping", id=ident)
    assert await talk.reply(pong=ident) == {"pong": ident, "tip": 4}


async def test_ping_on_an_empty_bus(house: House) -> None:
    talk = await Talk.open(house)
    talk.say(op="ping", id=1)
    assert await talk.reply(pong=1) == {"pong": 1, "tip": None}


async def test_commands_work_for_a_client_that_gave_no_parameter(house: House) -> None:
    await house.publish_all(range(5))
    talk = await Talk.open(house)
    await talk.tick(4)
    talk.say(op="view", every=2, id=1)
    ok = await talk.reply(ok=1)
    house.publish(range(5, 9))
    await talk.tick(8)
    assert ticks(talk.behind(ok)) == [6, 8]


async def test_a_command_in_a_binary_message(house: House) -> None:
    await house.publish_all(range(5))
    talk = await Talk.open(house, "tail=0")
    talk.socket.send(b'{"op":"ping","id":1}', BINARY)
    await talk.reply(pong=1)


async def _closed(talk: Talk) -> Closed:
    while True:
        try:
            await talk.next()
        except Closed as closed:
            return closed

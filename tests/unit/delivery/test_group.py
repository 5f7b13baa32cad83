"""Groups: what they read for all, batch messages with common cuts, who joins in their middle, how long they wait."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tick_gateway.delivery.encoder import Encoder, Variant
from tick_gateway.delivery.flush import FlushPolicy
from tick_gateway.delivery.group import Group
from tick_gateway.history.local.limits import Limits
from tick_gateway.model.tick import Position
from tick_gateway.model.view import View
from tick_gateway.wire.ndjson import NDJSONFraming

from ...simulation.client import Client
from ...simulation.disk import Disk
from ...simulation.room import Room


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.close()


def test_who_joins_while_a_message_is_gathered_gets_its_own_part_of_it(room: Room) -> None:
    room.tell(1, run="a")
    early = Client(room, "sse", [("batch", "5"), ("tail", "0")])
    room.settle()
    room.tell(2, run="a")
    late = Client(room, "sse", [("batch", "5"), ("from_t", "a:2")])
    room.settle()
    assert early.session.state.live and late.session.state.live
    room.publish(3, run="a")
    room.publish(1, run="b")
    room.advance(2)
    assert (early.numbers, late.numbers) == ([2, 3, 1], [3, 1])
    assert [message.id for message in late.messages] == ["a:3", "b:-1", "b:1"]


def test_cuts_are_common_to_all_who_are_live(room: Room) -> None:
    room.tell(1, run="a")
    early = Client(room, "ndjson", [("batch", "3"), ("tail", "0")])
    room.settle()
    room.tell(2, run="a")
    late = Client(room, "ndjson", [("batch", "3"), ("from_t", "a:2")])
    room.settle()
    room.tell(3, 4, 5, 6, 7, run="a")
    assert [[one["t"] for one in json.loads(message.data)] for message in early.messages] == [[2, 3, 4], [5, 6, 7]]
    assert [[one["t"] for one in json.loads(message.data)] for message in late.messages] == [[3, 4], [5, 6, 7]]


def test_a_message_that_is_not_full_goes_out_after_a_second(room: Room) -> None:
    room.tell(1)
    client = Client(room, "ws", [("batch", "100"), ("tail", "0")])
    room.settle()
    room.tell(2, 3)
    room.advance(0.8)
    assert client.numbers == []
    room.advance(0.2)
    assert client.numbers == [2, 3]


def test_a_batch_keeps_nobody_else_waiting(room: Room) -> None:
    room.tell(1)
    patient = Client(room, "ndjson", [("batch", "100"), ("tail", "0")])
    prompt = Client(room, "ndjson", [("tail", "0")])
    room.settle()
    for t in range(2, 9):
        room.tell(t)
        assert prompt.numbers == list(range(2, t + 1))
    assert patient.numbers == []


def test_a_message_that_nobody_waits_for_any_more_is_not_flushed_for_ever(room: Room) -> None:
    room.tell(1)
    Client(room, "ndjson", [("batch", "5"), ("tail", "0"), ("limit", "9")])  # waits in the group, is never live
    live = Client(room, "ndjson", [("batch", "5"), ("tail", "0")])
    room.settle()
    room.tell(2)
    live.leave()
    flushes = room.fanout.flushes
    room.advance(10)
    assert room.fanout.flushes - flushes <= 2


@pytest.mark.parametrize("kind", ["ndjson", "ws", "ndjson+gzip"])
def test_a_limit_gathers_as_all_others_do(room: Room, kind: str) -> None:
    room.tell(1)
    client = Client(room, kind, [("batch", "3"), ("limit", "8"), ("tail", "0")])
    room.settle()
    for t in range(2, 12):
        room.tell(t)
    ticks = [json.loads(message.data) for message in client.messages if message.name == "message"]
    assert [[one["t"] for one in array] for array in ticks if isinstance(array, list)] == [[2, 3, 4], [5, 6, 7], [8, 9]]
    assert client.session.state.ended


def test_a_limit_waits_no_longer_for_a_full_message(room: Room) -> None:
    room.tell(1)
    client = Client(room, "ndjson", [("batch", "100"), ("limit", "50"), ("tail", "0")])
    room.settle()
    room.tell(2, 3)
    room.advance(0.8)
    assert client.numbers == []
    room.advance(0.2)
    assert client.numbers == [2, 3]
    room.tell(4)
    room.publish(1, run="b")
    room.advance(0.1)
    assert client.numbers == [2, 3, 4, 1], "a notice does not wait"


def test_a_limit_does_not_read_what_is_on_disk_again_and_again() -> None:
    """A message that is not full, of blocks that no cache keeps: what is read is told, and not looked up once more."""
    limits = Limits(block_bytes=200, block_age=60.0, level=1, fsync="never")
    room = Room(ring=2, inbox=100, disk=Disk(limits, [0], cache_bytes=1, queue_bytes=10_000))
    try:
        room.tell(1)
        client = Client(room, "sse", [("batch", "50"), ("limit", "40"), ("tail", "0")])
        room.settle()
        for _ in range(3):
            first = room.next_t()
            for t in range(first, first + 30):
                room.publish(t)
            room.advance(0.5)  # fails where the loop never comes to rest
        room.advance(2.0)
        assert client.numbers == list(range(2, 42))
    finally:
        room.close()


# ---- what a group reads ----


def joined(room: Room, position: Position, view: View = View()) -> tuple[Group, Client]:  # noqa: B008
    """A group whose one session stands at a position."""
    member = Client(room, "ndjson", [("tail", "0"), ("limit", "9")])  # it reads by itself
    group = Group(Variant(NDJSONFraming(False), view), 0.0)
    assert group.join(member.session, position, position)
    return group, member


def test_a_group_whose_bytes_cannot_be_made_stands_where_it_stood(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise ZeroDivisionError

    room.tell(1, 2, 3, run="a")
    group, member = joined(room, Position("a", 1))
    before = group.cursor
    encoder = Encoder(1000)
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "encode", fail)
        with pytest.raises(ZeroDivisionError):
            group.advance(room.feed, encoder, FlushPolicy(0.0), 0.0)
    assert group.cursor is before and group.leave(member.session)[:2] == (Position("a", 1), True)


def test_a_group_that_would_have_to_wait_for_the_disk_reads_nothing() -> None:
    room = Room(ring=2, disk=Disk(Limits(block_bytes=300, level=1, fsync="never"), cache_bytes=1))
    try:
        room.tell(*range(1, 30), run="a")
        room.tell(1, 2, 3, run="b")
        group, member = joined(room, Position("a", 1))
        before = group.cursor
        assert group.advance(room.feed, Encoder(1000), FlushPolicy(0.0), 0.0) is None
        assert group.behind and group.cursor is before
        assert group.leave(member.session)[:2] == (Position("a", 1), True)
    finally:
        room.close()


def test_who_stands_elsewhere_does_not_join(room: Room) -> None:
    room.tell(1, 2, 3, run="a")
    group, _ = joined(room, Position("a", 2))
    other = Client(room, "ndjson", [("tail", "0"), ("limit", "9")]).session
    assert not group.join(other, Position("a", 1), Position("a", 2))
    assert not group.join(other, Position("a", 2), Position("a", 2), complete=False)
    assert group.join(other, Position("a", 2), Position("a", 3))


@pytest.mark.parametrize("seconds", [0.5, 5.0])
def test_how_long_a_message_waits_is_the_policy_s(seconds: float) -> None:
    room = Room()
    try:
        room.tell(1, run="a")
        group, _ = joined(room, Position("a", 1), View(batch=5))
        policy = FlushPolicy(0.0, batch_seconds=seconds)
        room.tell(2, 3, run="a")
        assert group.advance(room.feed, Encoder(1000), policy, 10.0) is None
        assert group.flush_at == 10.0 + seconds and group.position == Position("a", 1)
        assert group.advance(room.feed, Encoder(1000), policy, group.flush_at - 0.01) is None
        made = group.advance(room.feed, Encoder(1000), policy, group.flush_at)
        assert made is not None and json.loads(made.data)[1]["t"] == 3
    finally:
        room.close()

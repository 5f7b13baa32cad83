"""Batch messages on their way to live readers: common cuts, who joins in their middle, and how long they wait."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tick_gateway.history.local.limits import Limits

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

"""While the bus's lock is held, nothing is done for readers: a publisher waits for that lock.

Every path from a publisher to a reader's socket is taken, and the lock is looked at each time something is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.delivery.session import Session
from tick_gateway.history.external.directory import SourceDirectory
from tick_gateway.history.external.in_place import InPlace
from tick_gateway.history.local.limits import Limits

from ...simulation.client import Client
from ...simulation.disk import Disk
from ...simulation.room import Room
from ...simulation.wire import Wire

LIMITS = Limits(block_bytes=1000, level=1, fsync="never")


class Writes(logging.Handler):
    """What was written to sockets and to the log (somebody may not read that either), and with the lock held or not."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.bus: TickBus | None = None
        self.all = self.held = 0
        for kind, name in ((Wire, "write"), (Wire, "close"), (Wire, "abort"), (Session, "pump")):
            patch.setattr(kind, name, self._between(getattr(kind, name)))

    def _between(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def between(*args: Any) -> Any:
            self._look()
            return call(*args)

        return between

    def emit(self, record: logging.LogRecord) -> None:
        self._look()

    def _look(self) -> None:
        assert self.bus is not None
        self.all += 1
        self.held += self.bus._lock._is_owned()  # type: ignore[attr-defined]  # CPython's own, for Condition

    def check(self) -> None:
        assert self.all, "nobody was written to: the path was not taken"
        assert self.held == 0, f"{self.held} of {self.all} writes were made under the bus's lock"
        self.all = 0


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Writes]:
    writes = Writes(monkeypatch)
    logging.getLogger("tick_gateway").addHandler(writes)
    yield writes
    logging.getLogger("tick_gateway").removeHandler(writes)


Enter = Callable[[Room], Room]


@pytest.fixture
def enter(writes: Writes) -> Iterator[Enter]:
    """Makes a room whose lock is watched, with readers of every kind at the tip."""
    rooms: list[Room] = []

    def enter(room: Room) -> Room:
        rooms.append(room)
        writes.bus = room.bus
        room.tell(1, run="a")
        for kind in ("ws", "sse", "ndjson", "sse+gzip", "bare"):
            Client(room, kind, [] if kind == "bare" else [("tail", "0")])
        Client(room, "ndjson", [("tail", "0"), ("limit", "1000")])
        Client(room, "ndjson", [("run", "a"), ("from_t", "a:1")])
        room.advance(1.0)
        writes.all = writes.held = 0
        return room

    yield enter
    for room in rooms:
        room.close()


def on_the_loop(room: Room) -> None:
    """From here on the test's thread counts as the loop's: it empties a full inbox itself."""
    room.loop.call_soon(lambda: room.bus.attach(room.bus.wake or (lambda: None)))
    room.settle()


def tailing(room: Room) -> Room:
    """Files of another program are followed, and are the history; there are none as yet."""
    history = InPlace(room.bus, SourceDirectory(Path("nowhere"), 1 << 20), 1 << 20)
    history._shown = room.fanout.news
    room.bus.divert(history.take)
    return room


def kept(**disk: Any) -> Room:
    return Room(disk=Disk(LIMITS, [0], **disk))


def failing(room: Room) -> Room:
    assert room.disk is not None and room.store is not None
    room.disk.fill(0)
    room.tell(2)
    assert room.store.pipeline.state == "failing"
    return room


def lagging(room: Room) -> Room:
    assert room.disk is not None and room.store is not None
    room.disk.slow_down(1000.0)
    room.tell(2)
    room.advance(1.0)
    assert room.store.pipeline.state == "lagging"
    return room


PATHS: dict[str, Callable[[Enter], Room]] = {
    "memory": lambda enter: enter(Room(inbox=4)),
    "tailing": lambda enter: tailing(enter(Room(inbox=4))),
    "history": lambda enter: enter(kept()),
    "history fails": lambda enter: failing(enter(kept())),
    "history lags": lambda enter: lagging(enter(kept())),
    "history's queue is full": lambda enter: lagging(enter(kept(queue_bytes=100))),
}

paths = pytest.mark.parametrize("path", PATHS)


@paths
def test_a_tick_that_comes_by_itself(path: str, enter: Enter, writes: Writes) -> None:
    room = PATHS[path](enter)
    room.publish_next()
    room.advance(1.0)
    writes.check()


@paths
def test_what_a_pull_collects(path: str, enter: Enter, writes: Writes) -> None:
    room = PATHS[path](enter)
    for _ in range(3):
        room.publish_next()
        room.loop.call_soon(room.bus.collect)
        room.advance(1.0)
    writes.check()


@paths
def test_a_full_inbox_on_the_loop_s_own_thread(path: str, enter: Enter, writes: Writes) -> None:
    room = PATHS[path](enter)
    on_the_loop(room)
    room.bus._max_inbox = 2

    def publish() -> None:
        for _ in range(9):
            assert room.publish_next()

    for _ in range(3):
        room.loop.call_soon(publish)
        room.advance(1.0)
    writes.check()
    assert room.bus.dropped == 0


@paths
def test_the_end_of_a_run(path: str, enter: Enter, writes: Writes) -> None:
    room = PATHS[path](enter)
    room.publish_next()
    room.bus.end_run("a")
    room.advance(1.0)
    writes.check()
    room.tell(1, run="b")
    writes.check()


def test_a_queue_for_the_disk_that_fills_up(enter: Enter, writes: Writes) -> None:
    """What is left out of history is shown where it is handed over, and the log told."""
    room = enter(kept(queue_bytes=100))
    assert room.disk is not None and room.store is not None
    room.disk.slow_down(1000.0)
    for _ in range(5):
        room.publish_next(size=100)
        room.loop.call_soon(room.bus.collect)
        room.loop.advance(0.001)
    assert (room.store.pipeline.state, room.store.pipeline.unstored > 0) == ("lagging", True)
    writes.check()


@paths
def test_a_shutdown(path: str, enter: Enter, writes: Writes) -> None:
    room = PATHS[path](enter)
    room.publish_next()
    room.drain()
    writes.check()

"""When a session gives a sign of life, and when its peer is taken for gone."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tick_gateway.delivery.heartbeat import Heartbeat, unsent_bytes
from tick_gateway.delivery.patience import Patience

PATIENCE = Patience(missed_beats=3, stall_seconds=10.0)


def heartbeat(interval: float = 5.0, *, answered: bool = False) -> Heartbeat:
    return Heartbeat(interval, PATIENCE, 0.0, answered=answered)


def beats(heart: Heartbeat, *unsent: int) -> list[bool]:
    """Whether the peer is gone at each beat, where it had not taken so many bytes before it; each beat takes one."""
    gone = []
    for left in unsent:
        gone.append(heart.miss(left))
        heart.beat(left + 1)
    return gone


def test_a_beat_is_due_after_the_interval_of_quiet() -> None:
    heart = heartbeat()
    assert [heart.due(now, 0.0) for now in (4.9, 5.0, 5.1, 9.9, 10.0)] == [False, True, False, False, True]
    heart.wrote(12.0)
    assert [heart.due(now, 0.0) for now in (15.0, 17.0)] == [False, True]


def test_what_its_group_wrote_counts() -> None:
    heart = heartbeat()
    assert [heart.due(now, 4.0) for now in (5.0, 8.9, 9.0)] == [False, False, True]


def test_a_peer_that_takes_everything_stays() -> None:
    assert not any(beats(heartbeat(), *[0] * 20))


def test_a_peer_that_takes_nothing_is_gone_after_several_beats() -> None:
    assert beats(heartbeat(), 0, 1, 2, 3, 4) == [False, False, False, False, True]


def test_taking_some_forgives_all() -> None:
    assert beats(heartbeat(), 0, 1, 2, 3, 1, 2, 3, 4, 5) == [False] * 8 + [True]


def test_what_its_group_wrote_since_is_not_held_against_a_peer() -> None:
    """More may be with the system than at the last beat, though the peer took that."""
    heart = heartbeat()
    for n in range(1, 20):
        assert heart.due(10.0 * n, 10.0 * n - 5.0)
        assert not heart.miss(n)
        heart.beat(n + 1)


def test_beats_that_are_not_answered() -> None:
    """The peer's system takes them; the program behind it hangs."""
    heart = heartbeat(answered=True)
    assert beats(heart, 0, 0, 0, 0) == [False, False, False, True]
    heart.heard()
    assert beats(heart, 0, 0, 0, 0) == [False, False, False, True]


def test_a_peer_that_has_yet_to_come_to_a_beat() -> None:
    """It takes what was written before, and so cannot have answered."""
    assert not any(beats(heartbeat(answered=True), *range(100, 0, -2)))


@pytest.mark.parametrize(("interval", "gone_at"), [(1.0, 10.0), (5.0, 20.0)])
def test_a_blocked_peer_that_takes_nothing(interval: float, gone_at: float) -> None:
    heart = heartbeat(interval)
    heart.blocked()
    assert not heart.stalled(100, 0.0)
    assert not heart.stalled(100, gone_at - 0.1)
    assert heart.stalled(100, gone_at)


def test_a_blocked_peer_that_takes_some_stays() -> None:
    heart = heartbeat(1.0)
    heart.blocked()
    assert not any(heart.stalled(1000 - n, 9.0 * n) for n in range(100))


def test_a_peer_that_took_all_begins_anew() -> None:
    heart = heartbeat(1.0)
    beats(heart, 0, 1, 2, 3)
    heart.drained()
    assert beats(heart, 0, 1, 2, 3, 4) == [False, False, False, False, True]


async def test_bytes_that_the_peer_has_not_taken() -> None:
    """Those in the process, and where the system tells, those with it."""
    here, there = socket.socketpair()
    with there:
        here.setblocking(False)
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=here)
        try:
            assert unsent_bytes(transport) == 0
            transport.write(bytes(8 << 20))
            assert unsent_bytes(transport) >= transport.get_write_buffer_size() > 0
        finally:
            transport.abort()

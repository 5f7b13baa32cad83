"""``speed``: history at a multiple of the pace at which it was received, by a clock in the test's hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.command_client import CommandClient
from tests.support.events import notices, ticks
from tests.support.made_history import A, B, Served, opened, turns, write
from tests.support.reconnecting import reader
from tick_gateway.delivery.session_state import State

STREAMS = ("websocket", "sse", "ndjson", "ndjson-zstd")
pytestmark = pytest.mark.usefixtures("patient")


class Clock:
    """The time of sessions: it moves when the test says."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr("tick_gateway.delivery.session.time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def stands(scene: Served, t: int) -> None:
    """Wait until the one stream stands at a tick, and make sure that it stays there."""

    def there() -> bool:
        position = scene.harness.sessions[0].position
        return position is not None and position.t >= t

    await scene.harness.until(there)
    await scene.harness.until(lambda: scene.harness.sessions[0].state is not State.CATCHING_UP)
    position = scene.harness.sessions[0].position
    assert position is not None and position.t == t


@pytest.mark.parametrize("name", STREAMS)
async def test_replay_at_the_recorded_pace(tmp_path: Path, clock: Clock, name: str) -> None:
    """A tick every 10 ms, at twenty times that pace: 2 ticks a millisecond, over blocks and files; then live."""
    ledger = write(tmp_path / "history", {"B": B})
    async with opened(tmp_path / "history", ledger) as s:
        one = await reader(name, s.port, from_t="B:-1", speed=20).connect()
        events = await one.take(1)
        await stands(s, B[0])
        for due in (1, 2, 50, 51, 120):
            clock.now = 1000.0 + due * 0.0005 + 0.0001
            events += await one.until(B[due])
            await stands(s, B[due])
        clock.now += 10.0
        events += await one.until(B[-1])
        await s.harness.until(lambda: s.harness.sessions[0].state.live)
        await s.publish(3)
        events += await one.until(s.ledger.tip[1])
        s.ledger.check(events, after=("B", -1))
        assert not notices(events)
        one.close()


async def test_replay_with_pause_resume_and_seek(tmp_path: Path, clock: Clock) -> None:
    ledger = write(tmp_path / "history", {"A": A, "B": B})
    async with opened(tmp_path / "history", ledger) as s:
        client = await CommandClient.open(s.harness, "from_t=A:-1&speed=1&hello=1")
        await client.tick(A[0])
        clock.now += 0.1001
        await client.tick(A[10])
        client.say(op="pause", id=1)
        assert (await client.reply(ok=1))["at"] == f"A:{A[10]}"
        clock.now += 60
        await turns()
        client.say(op="resume", id=2)
        resumed = await client.reply(ok=2)
        assert resumed["at"] == f"A:{A[10]}"
        await turns()
        await stands(s, A[10])
        clock.now += 0.0101  # what was left of its time
        await client.tick(A[11])
        await stands(s, A[11])
        clock.now += 0.0501
        await client.tick(A[16])
        await stands(s, A[16])
        client.say(op="seek", id=3, from_t=f"A:{A[150]}", speed=10)
        await client.reply(ok=3)
        await client.tick(A[151])
        clock.now += 0.0101
        await client.tick(A[161])
        await stands(s, A[161])
        client.say(op="seek", id=4, from_t=f"B:{B[20]}")
        sought = await client.reply(ok=4)
        assert sought["at"] == f"B:{B[20]}"
        await client.tick(B[-1])
        await s.publish(1)
        await client.tick(s.ledger.tip[1])
        assert ticks(client.behind(sought)) == s.ledger.numbers["B"][21:]
        first = client.before(resumed)
        assert ticks(first) == list(A[:11]), "the pause is not made up for"
        client.socket.close()

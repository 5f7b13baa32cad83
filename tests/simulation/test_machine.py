"""Whatever happens in whatever order: nothing is lost without a word, nothing comes twice.

Without history, and with history on a disk that is slow, full or damaged, under processes that are killed and begin
again.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from tick_gateway.history.local.limits import Limits

from .client import Client, Pairs
from .disk import LARGEST_TICK, Disk
from .machine import VIEWS, Gateway, extras, kinds, numbers, views
from .room import Room

limits = st.builds(
    Limits,
    block_bytes=st.sampled_from((200, 1500)),
    block_age=st.sampled_from((1.0, 60.0)),
    segment_bytes=st.sampled_from((600, 3000, 1 << 20)),
    segment_age=st.sampled_from((5.0, 86400.0)),
    retain_bytes=st.sampled_from((0, 0, 3000)),
    retain_age=st.sampled_from((0.0, 0.0, 12.0)),
    level=st.just(1),
    fsync=st.sampled_from(("never", "interval")),
)
disks = st.builds(
    Disk,
    limits,
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
    cache_bytes=st.sampled_from((1, 4000)),
    queue_bytes=st.sampled_from((1500, 1 << 20)),
)
HARM = ("none", "none", "none", "index", "flip", "cut", "delete")


class GatewayWithHistory(Gateway):
    """One directory, and one process after another that serves it."""

    reach = 400

    @initialize(
        disk=disks,
        ring=st.sampled_from((2, 12)),
        inbox=st.sampled_from((6, 1000)),
        sliced=st.booleans(),
        registry=st.lists(st.tuples(kinds, views, extras, st.booleans()), max_size=4),
    )
    def begin(
        self, disk: Disk, ring: int, inbox: int, sliced: bool, registry: list[tuple[str, Pairs, Pairs, bool]]
    ) -> None:
        self.room = Room(sliced=sliced, ring=ring, inbox=inbox, disk=disk)
        for kind, view, extra, lazy in registry:
            Client(self.room, kind, [] if kind.startswith("bare") else [*view, *extra], lazy=lazy)

    @property
    def disk(self) -> Disk:
        assert self.room.disk is not None
        return self.room.disk

    # ---- processes ----

    @rule(how=st.sampled_from(("clean", "clean", "kill", "kill", "torn")), harm=st.sampled_from(HARM), number=numbers)
    def restart(self, how: str, harm: str, number: int) -> None:
        """The gateway ends and begins again; nearly everybody comes back."""
        room, disk = self.room, self.disk
        if how == "torn":
            disk.until_death = number % 300
            for _ in range(4):
                self.publish(3, 1, 40, 3)
            room.advance(0.6)
            disk.until_death = None
        meanwhile = self._harm(harm, number)
        if how == "clean":
            room.restart(meanwhile, late=number % 12 if number % 2 else None)
        else:
            room.kill(meanwhile)
        for index, client in enumerate(room.clients):
            if index % 4 != number % 4:
                client.come_back(VIEWS[number % len(VIEWS)])

    def _harm(self, harm: str, number: int) -> Callable[[], None]:
        """What somebody does to the files while no gateway runs."""
        disk, store = self.disk, self.room.store
        assert store is not None

        def do() -> None:
            files = disk.segments()
            if harm == "none" or not files:
                return
            file, pieces = files[number % len(files)], disk.layout(store)
            if harm == "index":
                (file.parent / "index").unlink(missing_ok=True)
            elif harm == "delete":
                disk.delete(pieces, file)
            elif size := file.stat().st_size:
                (disk.flip if harm == "flip" else disk.cut)(pieces, file, number % size)

        return do

    @rule(count=st.integers(1, 8))
    def resend(self, count: int) -> None:
        """A publisher sends again what the last process took with it."""
        bus, truth = self.room.bus, self.room.truth
        current = bus.current
        forgotten = truth.lives[current.id].forgotten if current is not None and current.id in truth.lives else {}
        if current is None or current.ended:
            return
        for t in sorted(forgotten)[:count]:
            if t > current.tip and not self.room.resend(current.id, forgotten[t]):
                return

    # ---- the disk ----

    @rule(left=st.sampled_from((0, 100, 1000)))
    def fill_disk(self, left: int) -> None:
        self.disk.fill(left)

    @rule()
    def heal_disk(self) -> None:
        self.disk.heal()

    @rule(write=st.sampled_from((0.0, 0.03, 0.3, 3.0)), read=st.sampled_from((0.0, 0.3)))
    def slow_disk(self, write: float, read: float) -> None:
        self.disk.slow_down(write)
        self.disk.read_seconds = read

    @rule(number=numbers)
    def delete_segment(self, number: int) -> None:
        """Under the readers, and under the writer where it is the newest one."""
        assert self.room.store is not None
        if files := self.disk.segments():
            self.disk.delete(self.disk.layout(self.room.store), files[number % len(files)])

    @rule(number=numbers, at=numbers)
    def damage_block(self, number: int, at: int) -> None:
        """One that was not looked at yet: a block is verified once a process."""
        assert self.room.store is not None
        pieces = self.disk.layout(self.room.store)
        if fresh := [piece for piece in pieces if not piece.verified and piece.path.exists()]:
            piece = fresh[number % len(fresh)]
            self.disk.flip(pieces, piece.path, piece.begin + at % (piece.end - piece.begin))

    @rule(number=numbers, low=numbers, high=numbers)
    def command_history(self, number: int, low: int, high: int) -> None:
        truth = self.room.truth
        for client in self._commanders(number) if truth.lives else []:
            ids = list(truth.lives)
            life = truth.lives[ids[number % len(ids)]]
            if life.id in self.room.bus.runs:
                low, high = sorted((low % (life.ts[-1] + 1), high % (life.ts[-1] + 1)))
                client.ask_history(life.id, low, high)

    # ---- what must hold ----

    @invariant()
    def history_is_bounded(self) -> None:
        if not hasattr(self, "room"):
            return
        store, disk = self.room.store, self.disk
        assert store is not None
        archive, pipeline = store.archive, store.pipeline
        cached = list(archive._cache.values())
        cost = sum(batch.size + 200 * len(batch.ticks) for batches in cached for batch in batches)
        assert archive.cached_bytes == cost and (cost <= disk.cache_bytes or len(cached) == 1)
        assert len(archive._loads) <= 6 * (len(self.room.clients) + 1)
        assert pipeline._queued <= disk.queue_bytes or sum(bool(group.batches) for group in pipeline._queue) == 1
        unshown = [batch for group in pipeline._flight if not group.shown for batch in group.batches]
        assert unshown == self.room.bus._handed
        opened = sum(batch.size for history in archive.histories.values() for batch in history.open)
        assert opened <= disk.limits.block_bytes + disk.queue_bytes + 12 * LARGEST_TICK
        for client in self.room.clients:
            if client.session.state.blocked:
                assert client.session.load is None, "a block that waits for a client to read"

    def _finish(self) -> None:
        self.disk.heal()
        self.room.advance(5.0)
        super()._finish()
        self.room.kill()  # and all of it is there


settle = settings(
    stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), report_multiple_bugs=False
)
if os.environ.get("MACHINE_PHASES"):
    settle = settings(settle, phases=[Phase.generate])
MANY = int(os.environ.get("MACHINE_EXAMPLES", "0"))
TestGateway = Gateway.TestCase
TestGateway.settings = settings(settle, max_examples=MANY or 250)
TestGatewayWithHistory = GatewayWithHistory.TestCase
TestGatewayWithHistory.settings = settings(settle, max_examples=MANY or 100)

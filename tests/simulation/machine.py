"""The machine: publish, stall, drain, evict, hang up and come back, change runs, in any order.

It drives the bus, the feed, the fan-out and real sessions on a loop that it turns by hand. A witness beside each client
knows every published tick and objects at once; what else must hold stands in the invariants here.
"""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tick_gateway.model.tick import Position

from .client import Client, Pairs
from .disk import LARGEST_TICK
from .room import ENCODED_BYTES, FLUSH_BYTES, HIGH_WATER, Room

VIEWS: list[Pairs] = [
    [],
    [("batch", "3")],
    [("every", "2")],
    [("every", "3"), ("stamp", "1")],
    [("fields", "u,a.x")],
    [("batch", "5"), ("every", "2"), ("fields", "u")],
]
EXTRAS: list[Pairs] = [
    [],
    [],
    [("lag", "skip")],
    [("lag", "skip"), ("limit", "7")],
    [("limit", "4")],
    [("speed", "0.5")],
    [("hello", "1")],
]
PLACES = ["newest"] * 2 + ["position"] * 2 + ["tail", "new", "beyond", "unknown", "bare", "since", "run", "backlog"]
MOST_CLIENTS = 12

KINDS = ["sse", "ndjson", "ws", "ws", "bare", "sse+gzip", "sse+zstd", "ndjson+gzip", "ndjson+zstd"]
KINDS += ["ws+deflate", "ws+alone", "bare+deflate"]
kinds = st.sampled_from(KINDS)
views = st.sampled_from(VIEWS)
extras = st.sampled_from(EXTRAS)
numbers = st.integers(0, 10_000)  # picks a client, a tick or a size from what there is
sizes = st.sampled_from((0, 0, 40, 600))
thens = st.sampled_from((0, 1, 2, 3, None, None))  # turns of the loop afterwards; None: until it rests


def anyone(machine: Gateway) -> bool:
    return bool(machine.room.clients)


def room_for_more(machine: Gateway) -> bool:
    return len(machine.room.clients) < MOST_CLIENTS


class Gateway(RuleBasedStateMachine):
    """One gateway and its clients. At the end everyone reads on, stands at the tip, and is told of the shutdown."""

    room: Room
    reach = 60  # how many of the newest ticks clients know of when they come

    @initialize(
        ring=st.sampled_from((4, 12, 40)),
        ring_bytes=st.sampled_from((2_000, 1 << 20)),
        inbox=st.sampled_from((6, 1000)),
        sliced=st.booleans(),
        registry=st.lists(st.tuples(kinds, views, extras, st.booleans()), max_size=5),
    )
    def begin(
        self, ring: int, ring_bytes: int, inbox: int, sliced: bool, registry: list[tuple[str, Pairs, Pairs, bool]]
    ) -> None:
        self.room = Room(sliced=sliced, ring=ring, ring_bytes=ring_bytes, inbox=inbox)
        for kind, view, extra, lazy in registry:
            Client(self.room, kind, [] if kind.startswith("bare") else [*view, *extra], lazy=lazy)

    def teardown(self) -> None:
        if hasattr(self, "room"):
            try:
                if not self.room.broken:
                    self._finish()
            finally:
                self.room.close()

    # ---- publishers ----

    @rule(count=st.integers(1, 12), step=st.sampled_from((1, 1, 1, 3)), size=sizes, then=thens)
    def publish(self, count: int, step: int, size: int, then: int | None) -> None:
        first = self.room.next_t(step)
        for i in range(count):
            self.room.publish(first + i * step, size)
        self._then(then)

    def _then(self, turns: int | None) -> None:
        """Let the loop come to rest, or stop in the middle of what it does."""
        if turns is None:
            self.room.advance(0.05)
        else:
            self.room.turn(turns)

    @precondition(anyone)
    @rule(number=numbers, rounds=st.integers(1, 5), size=sizes)
    def outrun(self, number: int, rounds: int, size: int) -> None:
        """A client stops reading while much is published."""
        self._client(number).wire.stalled = True
        for _ in range(rounds):
            self.publish(12, 1, size, None)

    @rule(t=st.integers(0, 3), named=st.booleans(), count=st.integers(1, 4), then=thens)
    def new_run(self, t: int, named: bool, count: int, then: int | None) -> None:
        """By a name, or by a falling t."""
        home = self.room.bus.current
        if not named and (home is None or t >= home.tip):
            return
        name = f"run-{self.room.serial}" if named else None
        if self.room.publish(t, run=name) is not None:
            for i in range(1, count):
                self.room.publish(t + i)
        self._then(then)

    @rule()
    def end_run(self) -> None:
        if self.room.bus.current is not None:
            self.room.bus.end_run(self.room.bus.current.id)

    # ---- time ----

    @rule(count=st.integers(1, 6))
    def turn(self, count: int) -> None:
        self.room.turn(count)

    @rule(seconds=st.sampled_from((0.0, 0.02, 0.3, 1.1, 11.0, 20.0)))
    def advance(self, seconds: float) -> None:
        self.room.advance(seconds)

    @rule()
    def pull(self) -> None:
        """A pull collects; the flush comes later."""
        self.room.bus.collect()

    # ---- clients ----

    def _place(self, place: str, number: int) -> Pairs:
        """A starting point near what was published last."""
        told = list(self.room.truth.by_u.values())
        if place == "newest" or not told:
            return []
        some = told[-1 - number % min(len(told), self.reach)]
        tip = self.room.truth.lives[some.run].ts[-1]
        shown = self.room.bus.runs[some.run].shown
        at = datetime.fromtimestamp(some.at / 1000, UTC).isoformat(timespec="milliseconds")
        here = ("from_t", str(Position(some.run, some.t - number % 2)))
        choices: dict[str, Pairs] = {
            "position": [here],
            "tail": [("tail", str(1 + number % 9))],
            "new": [("tail", "0")],
            "beyond": [("from_t", f"{some.run}:{tip + 1 + number % 5}")],
            "unknown": [("from_t", f"nowhere:{number}")],
            "bare": [("from_t", str(some.t + (number % 3) * 50))],
            "since": [("since", at)],
            "run": [("run", some.run), *([("tail", "3")] if number % 3 == 0 and shown > -1 else [])],
            "backlog": [here, ("backlog", str(number % 5))],
        }
        return choices[place]

    @precondition(room_for_more)
    @rule(kind=kinds, view=views, extra=extras, place=st.sampled_from(PLACES), number=numbers, lazy=st.booleans())
    def connect(self, kind: str, view: Pairs, extra: Pairs, place: str, number: int, lazy: bool) -> None:
        pairs = [] if kind.startswith("bare") else [*self._place(place, number), *view, *extra]
        Client(self.room, kind, pairs, lazy=lazy)

    @precondition(room_for_more)
    @rule(kind=kinds, count=st.integers(2, 4))
    def connect_several(self, kind: str, count: int) -> None:
        """A group of one variant."""
        for i in range(count):
            Client(self.room, kind, [] if kind.startswith("bare") else VIEWS[count % 3], lazy=bool(i % 2))

    def _client(self, number: int) -> Client:
        return self.room.clients[number % len(self.room.clients)]

    @precondition(anyone)
    @rule(number=numbers)
    def stall(self, number: int) -> None:
        self._client(number).wire.stalled = True

    @precondition(anyone)
    @rule(number=numbers, count=st.sampled_from((1, 100, 1500, 5000)))
    def drain(self, number: int, count: int) -> None:
        self._client(number).wire.take(count)

    @precondition(anyone)
    @rule(number=numbers)
    def read_on(self, number: int) -> None:
        self._client(number).wire.read_on()

    @precondition(anyone)
    @rule(number=numbers, for_good=st.booleans())
    def hang_up(self, number: int, for_good: bool) -> None:
        client = self._client(number)
        client.leave()
        if for_good:
            self.room.clients.remove(client)

    @precondition(anyone)
    @rule(number=numbers, view=views, extra=extras)
    def come_back(self, number: int, view: Pairs, extra: Pairs) -> None:
        self._client(number).come_back([*view, *extra])

    # ---- commands ----

    def _commanders(self, number: int) -> list[Client]:
        """One that can send commands, if there is any."""
        able = [client for client in self.room.clients if client.commanding]
        return [able[number % len(able)]] if able else []

    @rule(number=numbers, view=views)
    def command_view(self, number: int, view: Pairs) -> None:
        for client in self._commanders(number):
            client.see_as(view)

    @rule(number=numbers, op=st.sampled_from(("pause", "resume", "ping")))
    def command(self, number: int, op: str) -> None:
        for client in self._commanders(number):
            client.command(op)

    @rule(number=numbers, place=st.sampled_from(("position", "unknown", "beyond")), at=numbers)
    def command_seek(self, number: int, place: str, at: int) -> None:
        for client in self._commanders(number):
            for _, text in self._place(place, at):
                run, _, t = text.rpartition(":")
                if client.query.run in (None, run):
                    client.seek(Position(run, int(t)))

    @rule(number=numbers, low=numbers, high=numbers)
    def command_history(self, number: int, low: int, high: int) -> None:
        tip = self.room.bus.tip
        for client in self._commanders(number) if tip is not None else []:
            assert tip is not None
            low, high = sorted((low % (tip.t + 1), high % (tip.t + 1)))
            client.ask_history(tip.run, low, high)

    # ---- what must hold ----

    @invariant()
    def clients_are_content(self) -> None:
        if hasattr(self, "room"):
            self.room.look()

    @invariant()
    def sessions_are_what_their_state_says(self) -> None:
        for client in self.room.clients if hasattr(self, "room") else ():
            client.check_state()

    @invariant()
    def memory_is_bounded(self) -> None:
        if not hasattr(self, "room"):
            return
        ring = self.room.bus.ring
        assert ring.count == sum(len(batch.ticks) for batch in ring) <= ring.max_ticks
        assert ring.size <= ring.max_size or ring.count == 1
        held = sum(len(piece.data) for batch in ring for piece in batch.encoded.values())
        assert held <= ENCODED_BYTES + 4 * (FLUSH_BYTES + LARGEST_TICK)
        for client in self.room.clients:
            # One write goes beyond the mark: what a flush holds, with its framing; and answers to commands.
            assert client.wire.most <= HIGH_WATER + 3 * (FLUSH_BYTES + LARGEST_TICK) + 100 * client.commands

    def _finish(self) -> None:
        """Everyone reads on: whoever waits for every tick comes to the tip; then the gateway shuts down."""
        room = self.room
        for client in room.clients:
            client.wire.read_on()
        room.settle()
        for client in room.clients:
            if client.commanding:
                client.command("resume")
        room.advance(100.0)
        for client in room.clients:
            witness, tip = client.witness, room.truth.tip
            if client.connected and witness.start is None and tip is not None:
                assert witness.talk.over, f"never answered: {witness.talk.asked} {witness.talk.pasts}"
                if client.session.pace is not None:
                    continue  # its replay takes longer than that
                if client.query.run is not None:
                    run = room.bus.runs[client.query.run]
                    assert not run.over, "its run is over, and it was not told"
                    tip = run.id, run.tip
                witness.has_all(tip)
        self._shut_down()

    def _shut_down(self) -> None:
        """What was published and not flushed yet goes out first; then everyone is told, and every connection closed."""
        room = self.room
        reading = [client for client in room.clients if client.connected and not client.opening]
        for client in room.clients[:: 1 + room.serial % 4]:
            client.wire.stalled = True
        live = [client for client in reading if client.session.state.live and not client.wire.stalled]
        self.publish(1, 1, 0, 3)  # flushed at once; the next flush has to wait for its time
        self.publish(2, 1, 0, 0)
        room.drain()
        for client in reading:
            assert client.wire.lost, "a connection that a shutdown leaves open"
            if not client.wire.stalled:
                assert client.witness.closed if client.kind in ("ws", "bare") else client.chunked.ended
                assert client.decompress.whole
                assert client.witness.ended or client.kind == "bare"
        for client in live:
            client.witness.has_all(room.truth.tip)
        assert not room.fanout.registry.sessions, room.fanout.registry.sessions
        assert not room.fanout._groups, [(g.variant, g.live, g.waiting) for g in room.fanout._groups.values()]

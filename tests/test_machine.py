"""Publish, stall, drain, evict, hang up and come back, change runs, in any order: nothing is lost without a word.

The machine drives the bus, the feed, the fan-out and real sessions on a loop that it turns by hand. A ``Witness`` beside
each client knows every published tick and objects at once; what else must hold stands in the invariants here.
"""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tick_gateway.tick import Position

from .room import ENCODED_BYTES, FLUSH_BYTES, HIGH_WATER, LARGEST_TICK, Client, Room
from .witness import Asked, Past

Pairs = list[tuple[str, str]]

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
PLACES = "newest newest tail new position position beyond unknown bare since run backlog".split()

kinds = st.sampled_from(("sse", "ndjson", "ws", "ws", "bare"))
views = st.sampled_from(VIEWS)
extras = st.sampled_from(EXTRAS)
places = st.sampled_from(PLACES)
numbers = st.integers(0, 10_000)
sizes = st.sampled_from((0, 0, 40, 600))
thens = st.sampled_from((0, 1, 2, 3, None, None))


class Gateway(RuleBasedStateMachine):
    room: Room

    @initialize(
        ring=st.sampled_from((4, 12, 40)),
        ring_bytes=st.sampled_from((2_000, 1 << 20)),
        inbox=st.sampled_from((6, 1000)),
        sliced=st.booleans(),
        crowd=st.lists(st.tuples(kinds, views, extras, st.booleans()), max_size=5),
    )
    def begin(
        self, ring: int, ring_bytes: int, inbox: int, sliced: bool, crowd: list[tuple[str, Pairs, Pairs, bool]]
    ) -> None:
        self.room = Room(sliced=sliced, ring=ring, ring_bytes=ring_bytes, inbox=inbox)
        for kind, view, extra, lazy in crowd:
            Client(self.room, kind, [] if kind == "bare" else [*view, *extra], lazy=lazy)

    def teardown(self) -> None:
        if hasattr(self, "room"):
            try:
                if not self.room.broken:
                    self._finish()
            finally:
                self.room.close()

    # ---- publishers ----

    def _next(self, step: int) -> int:
        home = self.room.bus.current
        return home.tip + step if home is not None else step

    @rule(count=st.integers(1, 12), step=st.sampled_from((1, 1, 1, 3)), size=sizes, then=thens)
    def publish(self, count: int, step: int, size: int, then: int | None) -> None:
        t = self._next(step)
        for _ in range(count):
            self.room.publish(t, size)
            t += step
        self._then(then)

    def _then(self, turns: int | None) -> None:
        """Let the loop come to rest, or stop in the middle of what it does."""
        if turns is None:
            self.room.advance(0.05)
        else:
            self.room.turn(turns)

    @precondition(lambda self: self.room.clients)
    @rule(number=numbers, rounds=st.integers(1, 5), size=sizes)
    def outrun(self, number: int, rounds: int, size: int) -> None:
        """A client stops reading while much is published."""
        self._client(number).wire.stalled = True
        for _ in range(rounds):
            self.publish(12, 1, size, None)

    @rule(t=st.integers(0, 3), run=st.booleans(), count=st.integers(1, 4), then=thens)
    def new_run(self, t: int, run: bool, count: int, then: int | None) -> None:
        """By a name, or by a falling t."""
        home = self.room.bus.current
        if not run and (home is None or t >= home.tip):
            return
        self.room.serial += 1
        name = f"run-{self.room.serial}" if run else None
        for i in range(count):
            if self.room.publish(t + i, run=name) is None:
                break
            name = None
        self._then(then)

    @precondition(lambda self: self.room.bus.current is not None)
    @rule()
    def end_run(self) -> None:
        assert self.room.bus.current is not None
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
        truth = self.room.truth
        told = list(truth.by_u.values())
        if place == "newest" or not told:
            return []
        some = told[-1 - number % min(len(told), 60)]
        match place:
            case "tail":
                return [("tail", str(1 + number % 9))]
            case "new":
                return [("tail", "0")]
            case "beyond":
                return [("from_t", f"{some.run}:{truth.lives[some.run].ts[-1] + 1 + number % 5}")]
            case "unknown":
                return [("from_t", f"nowhere:{number}")]
            case "bare":
                return [("from_t", str(some.t + (number % 3) * 50))]
            case "since":
                at = some.at / 1000
                return [("since", _rfc3339(at))]
            case "run":
                tail = number % 3 == 0 and self.room.bus.runs[some.run].shown > -1
                return [("run", some.run), *([("tail", "3")] if tail else [])]
            case "backlog":
                return [("from_t", str(Position(some.run, some.t))), ("backlog", str(number % 5))]
        return [("from_t", str(Position(some.run, some.t - number % 2)))]

    @precondition(lambda self: len(self.room.clients) < 12)
    @rule(kind=kinds, view=views, extra=extras, place=places, number=numbers, lazy=st.booleans())
    def connect(self, kind: str, view: Pairs, extra: Pairs, place: str, number: int, lazy: bool) -> None:
        pairs = [] if kind == "bare" else [*self._place(place, number), *view, *extra]
        Client(self.room, kind, pairs, lazy=lazy)

    @precondition(lambda self: len(self.room.clients) < 12)
    @rule(kind=kinds, count=st.integers(2, 4))
    def connect_several(self, kind: str, count: int) -> None:
        """A group of one variant."""
        view: Pairs = [] if kind == "bare" else VIEWS[count % 3]
        for i in range(count):
            Client(self.room, kind, view, lazy=bool(i % 2))

    def _client(self, number: int) -> Client:
        return self.room.clients[number % len(self.room.clients)]

    @precondition(lambda self: self.room.clients)
    @rule(number=numbers)
    def stall(self, number: int) -> None:
        self._client(number).wire.stalled = True

    @precondition(lambda self: self.room.clients)
    @rule(number=numbers, count=st.sampled_from((1, 100, 1500, 5000)))
    def drain(self, number: int, count: int) -> None:
        self._client(number).wire.take(count)

    @precondition(lambda self: self.room.clients)
    @rule(number=numbers)
    def read_on(self, number: int) -> None:
        self._client(number).wire.read_on()

    @precondition(lambda self: self.room.clients)
    @rule(number=numbers)
    def hang_up(self, number: int) -> None:
        self._client(number).leave()

    @precondition(lambda self: self.room.clients)
    @rule(number=numbers)
    def forget(self, number: int) -> None:
        """A client goes for good."""
        client = self._client(number)
        client.leave()
        self.room.clients.remove(client)

    @precondition(lambda self: self.room.clients)
    @rule(number=numbers, view=views, extra=extras)
    def come_back(self, number: int, view: Pairs, extra: Pairs) -> None:
        self._client(number).come_back([*view, *extra])

    # ---- commands ----

    def _commander(self, number: int) -> Client | None:
        able = [client for client in self.room.clients if client.commanding]
        return able[number % len(able)] if able else None

    @rule(number=numbers, view=views)
    def command_view(self, number: int, view: Pairs) -> None:
        if client := self._commander(number):
            members: dict[str, object] = {"fields": [], "every": 1, "batch": 1, "stamp": False}
            from tick_gateway.params import parse_query

            asked = parse_query(view).view
            members = {name: _member(name, text) for name, text in view}
            client.witness.asked[client.commands + 1] = Asked("view", view=asked)
            client.command("view", **members)

    @rule(number=numbers, op=st.sampled_from(("pause", "resume", "ping")))
    def command(self, number: int, op: str) -> None:
        if client := self._commander(number):
            client.witness.asked[client.commands + 1] = Asked(op)
            client.command(op)

    @rule(number=numbers, place=st.sampled_from(("position", "unknown", "beyond")), at=numbers)
    def command_seek(self, number: int, place: str, at: int) -> None:
        client = self._commander(number)
        pairs = dict(self._place(place, at))
        if client and "from_t" in pairs and client.query.run is None:
            run, _, t = pairs["from_t"].rpartition(":")
            start = Position(run, int(t))
            beyond = self.room.truth.beyond(start)
            client.witness.asked[client.commands + 1] = Asked("seek", start=start, beyond=beyond)
            client.command("seek", from_t=pairs["from_t"])

    @rule(number=numbers, low=numbers, high=numbers)
    def command_history(self, number: int, low: int, high: int) -> None:
        client, tip = self._commander(number), self.room.bus.tip
        current = self.room.bus.current
        if client and client.query.run is None and tip and current and tip.run == current.id:
            low, high = sorted((low % (tip.t + 1), high % (tip.t + 1)))
            ids = client.commands + 1
            held = [tick for batch in self.room.bus.ring if batch.run.id == tip.run for tick in batch.ticks]
            by_t = {told.t: told for told in self.room.truth.by_u.values() if told.run == tip.run}
            client.witness.pasts[ids] = Past([by_t[tick.t] for tick in held if low <= tick.t <= high])
            if len(client.witness.pasts) > 4:
                del client.witness.pasts[ids]
                return
            client.command("history", t0=low, t1=high, run=tip.run)

    # ---- what must hold ----

    @invariant()
    def clients_read(self) -> None:
        if hasattr(self, "room"):
            self.room.look()

    @invariant()
    def memory_is_bounded(self) -> None:
        if not hasattr(self, "room"):
            return
        ring, encoder = self.room.bus.ring, self.room.fanout.encoder
        assert ring.count == sum(len(batch.ticks) for batch in ring) <= ring.max_ticks
        assert ring.size <= ring.max_size or ring.count == 1
        held = sum(len(data) for batch in ring for data in batch.encoded.values())
        assert held <= ENCODED_BYTES + 4 * (FLUSH_BYTES + LARGEST_TICK)
        for client in self.room.clients:
            # One write goes beyond the mark: what a flush holds, twice for its framing; and answers to commands.
            assert client.wire.most <= HIGH_WATER + 3 * (FLUSH_BYTES + LARGEST_TICK) + 100 * client.commands

    def _finish(self) -> None:
        """Everyone reads on: whoever waits for every tick comes to the tip; then the gateway shuts down."""
        room = self.room
        for client in room.clients:
            client.wire.read_on()
        room.settle()
        for client in room.clients:
            if client.commanding:
                client.witness.asked[client.commands + 1] = Asked("resume")
                client.command("resume")
        room.advance(100.0)
        for client in room.clients:
            self._at_the_tip(client)
        self._shut_down()

    def _shut_down(self) -> None:
        """What was published and not flushed yet goes out first; then everyone is told, and every connection closed."""
        room = self.room
        reading = [client for client in room.clients if client.connected]
        for client in room.clients[:: 1 + room.serial % 4]:
            client.wire.stalled = True
        live = [client for client in reading if client.session.live and not client.wire.stalled]
        self.publish(3, 1, 0, 0)
        tip = room.truth.tip
        room.drain()
        for client in reading:
            assert client.wire.lost, "a connection that a shutdown leaves open"
            if not client.wire.stalled:
                assert client.witness.closed if client.kind in ("ws", "bare") else client.chunked.ended
                assert client.witness.ended or client.kind == "bare"
        for client in live:
            self._has_all(client, tip)
        assert not room.fanout.sessions and not room.fanout._groups

    def _at_the_tip(self, client: Client) -> None:
        witness, tip = client.witness, self.room.truth.tip
        if not client.connected or witness.start is not None or tip is None:
            return
        assert not witness.asked and not witness.pasts, f"never answered: {witness.asked} {witness.pasts}"
        if client.query.run is not None:
            assert not self.room.bus.runs[client.query.run].over, "its run is over, and it was not told"
            tip = client.query.run, self.room.bus.runs[client.query.run].tip
        self._has_all(client, tip)

    def _has_all(self, client: Client, tip: tuple[str, int] | None) -> None:
        witness = client.witness
        if tip is None or witness.start is not None or witness.closed == 4001 or witness.ended in ("run", "limit"):
            return
        if witness.run != tip[0]:
            assert witness.kind == "bare", f"stuck at {witness.run}:{witness.t}, the tip is {tip}"
            witness._cross(tip[0])
        missing = self.room.truth.shown(tip[0], witness.t, tip[1], witness.view.every)
        if witness.jump:  # nothing that its view lets through is left of what it jumped over
            missing = [t for t in missing if not self.room.truth.gone(tip[0], t)]
        assert not missing, f"stuck at {witness.run}:{witness.t}; missing {missing}"


def _member(name: str, text: str) -> object:
    return text.split(",") if name == "fields" else int(text)


def _rfc3339(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


TestGateway = Gateway.TestCase
TestGateway.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

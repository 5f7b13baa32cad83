"""What every reader yields, whatever its transport, and the one check of it: every tick once, in order, or a notice.

Pure: no sockets, no clock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Tick:
    """A tick as it was delivered. ``message`` counts the messages it came in, so that batches can be told apart."""

    run: str | None
    t: int
    data: bytes
    message: int = 0


class Gap(NamedTuple):
    run: str
    after: int
    next: int | None


class Reset(NamedTuple):
    """``old`` and ``complete`` are None where the transport has no place for them (pulls)."""

    run: str
    old: str | None
    complete: bool | None


class End(NamedTuple):
    reason: str
    position: str | None


class Hello(NamedTuple):
    run: str | None
    first: int | None
    tip: int | None


Event = Tick | Gap | Reset | End | Hello

NOTICES: dict[str, type[Gap | Reset | End | Hello]] = {"gap": Gap, "reset": Reset, "end": End, "hello": Hello}


def notice(members: Mapping[str, Any]) -> Gap | Reset | End | Hello:
    """A notice's JSON object as an event; it has to be of the exact shape that the protocol gives it."""
    name = members["notice"]
    assert set(members) == {*NOTICES[name]._fields, "notice"}, f"the members of {members}"
    values = {key: value for key, value in members.items() if key != "notice"}
    return NOTICES[name](**values)


def ticks(events: Iterable[Event]) -> list[int]:
    """The numbers of the ticks among events."""
    return [event.t for event in events if isinstance(event, Tick)]


def notices(events: Iterable[Event]) -> list[Event]:
    """The events that are no ticks, without hellos."""
    return [event for event in events if not isinstance(event, Tick | Hello)]


def only_reset(events: Iterable[Event]) -> Reset:
    """The one reset among events."""
    (reset,) = [event for event in events if isinstance(event, Reset)]
    return reset


Position = tuple[str, int]


class Ledger:
    """What was published, and the check of what a reader made of it.

    ``publish`` notes each tick in order; ``lost`` marks those that were published but dropped on the way in.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[int, bytes]] = {}
        self.numbers: dict[str, list[int]] = {}  # of each run's ticks, in order
        self.lost: set[tuple[str, int]] = set()

    def note(self, run: str, t: int, data: bytes) -> None:
        self.runs.setdefault(run, {})[t] = data
        self.numbers.setdefault(run, []).append(t)

    @property
    def tip(self) -> Position:
        run, numbers = list(self.numbers.items())[-1]
        return run, numbers[-1]

    def between(self, run: str, after: int, upto: float) -> list[int]:
        """The ticks of a run with after < t <= upto."""
        numbers = self.numbers.get(run, [])
        return numbers[bisect_right(numbers, after) : bisect_right(numbers, upto)]

    def check(
        self,
        events: Sequence[Event],
        *,
        after: Position | None = None,
        upto: Position | None = None,
        every: int = 1,
        skip: bool = False,
        shown: Callable[[bytes], bytes] = lambda data: data,
    ) -> None:
        """Assert that the events are every tick once, in order, or a notice.

        Args:
            after: the position that the reader came with; None: it began wherever its first event says.
            upto: where it has to stand in the end; None: at the tip.
            every: only ticks whose ``t`` it divides are shown.
            skip: the reader asked for ``lag=skip``, which goes on at the newest tick after a reset.
            shown: what the view makes of a tick's bytes.
        """
        walk = _Walk(self, after, every, skip, shown)
        for number, event in enumerate(events):
            try:
                walk.take(event)
            except AssertionError as error:
                around = "\n  ".join(repr(e)[:160] for e in events[max(number - 3, 0) : number + 1])
                raise AssertionError(f"event {number}: {error}\n  {around}") from None
        run, t = upto or self.tip
        assert walk.at is not None, "no event said where the reader stands"
        assert walk.at[0] == run, f"the reader stands in run {walk.at[0]}, not in {run}"
        missing = walk.between(run, walk.at[1], t)
        assert walk.told or not missing, f"ticks {missing[:10]} of run {run} never came"


class _Walk:
    """A reader's way through the ledger: ``at`` is where it stands."""

    def __init__(
        self, ledger: Ledger, at: Position | None, every: int, skip: bool, shown: Callable[[bytes], bytes]
    ) -> None:
        self.ledger, self.at, self.every, self.skip, self.shown = ledger, at, every, skip, shown
        self.gapped = False  # a gap was told in this run
        self.told = False  # one that said that the rest of this run cannot be read
        self.free = at is None  # any tick may come next
        self.over = False

    def between(self, run: str, after: int, upto: float) -> list[int]:
        """The ticks of a run that the view shows, with after < t <= upto."""
        return [t for t in self.ledger.between(run, after, upto) if t % self.every == 0]

    def take(self, event: Event) -> None:
        assert not self.over, "something came after the end"
        match event:
            case Tick():
                self._tick(event)
            case Gap():
                self._gap(event)
            case Reset():
                self._reset(event)
            case End():
                self._end(event)
            case Hello():
                pass

    def _tick(self, tick: Tick) -> None:
        assert tick.run is not None, "the reader cannot know the run of its tick"
        run, last = self.at or (tick.run, -1)
        assert tick.run == run, f"a tick of run {tick.run} without a reset, in run {run}"
        published = self.ledger.runs.get(run, {})
        assert tick.t in published, f"tick {tick.t} of run {run} was never published"
        assert tick.t % self.every == 0, f"tick {tick.t} is not among every {self.every}"
        assert tick.data == self.shown(published[tick.t]), f"tick {tick.t} is not what was published"
        if not self.free:
            assert tick.t > last, f"tick {tick.t} came after tick {last}: repeated or out of order"
            assert not self.told, "a tick of a run whose rest cannot be read"
            skipped = self.between(run, last, tick.t - 1)
            assert not skipped, f"ticks {skipped[:10]} were skipped in silence"
        self.at, self.free = (run, tick.t), False

    def _gap(self, gap: Gap) -> None:
        run, last = self.at or (gap.run, gap.after)
        assert gap.run == run, f"a gap in run {gap.run}, but the reader stands in {run}"
        assert gap.after >= last or self.free, "the gap begins before the reader's position"
        unsaid = self.between(run, last, gap.after)
        assert not unsaid or self.free, f"ticks {unsaid[:10]} before the gap were skipped in silence"
        assert not self.told, "a gap behind the one without an end"
        self.gapped = True
        if gap.next is None:
            self.at, self.told = (run, gap.after), True
            return
        published = self.ledger.runs[run]
        assert gap.next in published, f"the gap ends at {gap.next}, which was never published"
        assert self.ledger.between(run, gap.after, gap.next - 1), "no published tick lies in the gap: a hole is no gap"
        self.at, self.free = (run, gap.next - 1), False

    def _reset(self, reset: Reset) -> None:
        assert reset.run in self.ledger.runs, f"a reset to run {reset.run}, which is none"
        if self.at is not None:
            old, last = self.at
            assert reset.old in (old, None), f"a reset from {reset.old}, but the reader stands in {old}"
            left = self.between(old, last, float("inf"))
            if reset.complete:
                order = list(self.ledger.runs)
                assert order.index(reset.run) == order.index(old) + 1, "a complete reset goes to the next run"
                assert not left, f"ticks {left[:10]} of run {old} did not come, but the reset says complete"
                assert not self.told
            elif old in self.ledger.runs and last <= self.ledger.numbers[old][-1] and not self.skip:
                assert not left or self.told, f"ticks {left[:10]} of run {old} were skipped without a gap"
                assert reset.complete is None or self.gapped, "nothing was skipped, but the reset says incomplete"
        self.at, self.gapped, self.told, self.free = (reset.run, -1), False, False, self.skip

    def _end(self, end: End) -> None:
        self.over = True
        if end.position is None:
            assert self.at is None, "the end does not say where the reader stands"
            return
        run, _, number = end.position.rpartition(":")
        t = int(number)
        at = self.at or (run, t)
        assert at[0] == run and at[1] <= t, f"the end is said to be at {end.position}, but the reader stands at {at}"
        assert self.told or not self.between(run, at[1], t), "the end's position passes over ticks that never came"
        self.at = (run, t)

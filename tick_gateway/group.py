"""A group: the sessions of one variant, and what a flush makes for all of them at once.

Pure but for the sessions it keeps as keys: no I/O, no asyncio; callers pass ``now``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from .cursor import Cursor, Frames, Item, Span
from .feed import Feed
from .notices import End
from .tick import Position
from .variant import Encoder, Variant
from .view import Payload, cut, join

BATCH_SECONDS: Final = 1.0  # how long a batch message waits to be full
_READ_BYTES: Final = 1 << 60  # the horizon bounds what a flush reads


class Member(Protocol):
    """What the fan-out asks of a session; ``session`` says what each call does."""

    @property
    def live(self) -> bool: ...
    @property
    def rests(self) -> bool: ...
    def write(self, data: bytes) -> None: ...
    def beat(self, heartbeat: bytes) -> None: ...
    def wake(self) -> None: ...
    def fall_back(self) -> None: ...
    def pump(self) -> None: ...
    def finish(self) -> None: ...
    def end(self, reason: str) -> None: ...
    def abort(self) -> None: ...


class Round(NamedTuple):
    """What a flush writes: ``data`` to every live session of the group; ``last`` where nothing may follow.

    ``late_data`` gives the bytes for a session that joined when so many payloads of the first message were gathered
    already.
    """

    data: bytes
    last: bool
    late_data: Callable[[int], bytes] | None = None


class Group:
    """The sessions of one variant.

    Attributes:
        live: those that stand at ``position``; the value is the round in which they were last written to.
        late: those of the live ones that joined while a message was being gathered: how many payloads it held, and
            their position.
        waiting: those that read by themselves and have nothing to read for now.
        position: the last tick that the live ones were given.
        previous: the same before the round under way, for those that it has not come to.
        cursor: how far the group has read; ahead of ``position`` by what is ``gathered``.
        gathered: payloads of a batch message that is not full yet.
        gathered_run: the run they belong to.
        flush_at: when they go out all the same, or None.
        round: counts flushes that wrote something.
        quiet_since: when something was written last.
    """

    __slots__ = (
        "cursor", "flush_at", "gathered", "gathered_run", "late", "live", "position", "previous", "quiet_since",
        "round",
        "variant", "waiting",
    )  # fmt: skip

    def __init__(self, variant: Variant, now: float) -> None:
        self.variant = variant
        self.live: dict[Member, int] = {}
        self.late: dict[Member, tuple[int, Position | None]] = {}
        self.waiting: set[Member] = set()
        self.position: Position | None = None
        self.previous: Position | None = None
        self.cursor = Cursor()
        self.gathered: list[Payload] = []
        self.gathered_run = ""
        self.flush_at: float | None = None
        self.round = 0
        self.quiet_since = now

    @property
    def empty(self) -> bool:
        return not self.live and not self.waiting

    @property
    def behind(self) -> bool:
        """Whether the live sessions would have to wait for the disk."""
        return self.cursor.waits

    def join(self, session: Member, position: Position | None, offered: Position | None) -> bool:
        """Make a session live where it stands as far as the group has read; returns whether it does."""
        if not self.live:
            if position != offered:
                return False
            self.cursor = Cursor(position=position, until_run=self.variant.until_run)
            self.position = position
            self.gathered = []
            self.flush_at = None
        elif position != self.cursor.position:
            return False
        if self.gathered:
            self.late[session] = len(self.gathered), position
        self.live[session] = self.round
        return True

    def leave(self, session: Member) -> Position | None:
        """Let a session go, wherever it is; returns the last tick that it was given, None where it was not live."""
        self.waiting.discard(session)
        if session not in self.live:
            return None
        position = self.position_of(session)
        del self.live[session]
        self.late.pop(session, None)
        return position

    def position_of(self, session: Member) -> Position | None:
        """The last tick that a live session was given."""
        if session in self.late:
            return self.late[session][1]
        return self.position if self.live.get(session) == self.round else self.previous

    def advance(self, feed: Feed, encoder: Encoder, now: float, end: str | None = None) -> Round | None:
        """Read on to the horizon and make the bytes for it; None where there is nothing to write. ``end``: why it is
        the last.

        Where what comes next has left memory already (``behind``), nothing is made: each session reads on by itself.

        The caller writes them to every live session whose value is not ``round`` yet, and sets it.
        """
        items: list[Item | End] = list(feed.read(self.cursor, now, _READ_BYTES))
        if self.behind:
            return None
        if end is not None:
            items.append(End(end, self.cursor.position))
        elif self.cursor.over:
            items.append(End("run", self.cursor.position))
        if self.variant.view.batch:
            made, position = self._gather(items, now)
        else:
            encoded = encoder.encode(self.variant, items)
            made, position = Round(encoded.data, encoded.last), self.cursor.position
        if not made.data:
            self.position = position
            return None
        self.previous, self.position = self.position, position
        self.round += 1
        self.quiet_since = now
        return made

    def _gather(self, items: Sequence[Item | End], now: float) -> tuple[Round, Position | None]:
        """Gather payloads to messages whose cuts are common to all; a partial one goes out in time or before a
        notice."""
        framing, view = self.variant.framing, self.variant.view
        position, parts, first, last = self.position, list[bytes](), None, False
        first_run = ""

        def message(payloads: list[Payload]) -> None:
            nonlocal first, first_run, position
            if first is None:
                first, first_run = payloads, self.gathered_run
            parts.append(framing.messages(self.gathered_run, [join(payloads)]))
            position = Position(self.gathered_run, payloads[-1].t)

        for item in items:
            if isinstance(item, Span):
                self.gathered_run = item.batch.run.id
                self.gathered += view.render(self.gathered_run, item.ticks)
                while (size := cut(self.gathered, view.batch)) is not None:
                    message(self.gathered[:size])
                    self.gathered = self.gathered[size:]
                continue
            assert not isinstance(item, Frames), "live sessions read from memory"
            if self.gathered:
                message(self.gathered)
                self.gathered = []
            parts.append(framing.notice(item))
            position = item.position
            first = [] if first is None else first
            if (closing := framing.closing(item)) is not None:
                parts.append(closing)
                last = True
                break
        if self.gathered and self.flush_at is not None and now >= self.flush_at:
            message(self.gathered)
            self.gathered = []
        if not self.gathered:
            self.flush_at, position = None, self.cursor.position
        elif self.flush_at is None or parts:
            self.flush_at = now + BATCH_SECONDS
        head = first or []
        rest = b"".join(parts[1:]) if head else b"".join(parts)

        def late_data(gathered: int) -> bytes:
            missing = head[gathered:]
            return (framing.messages(first_run, [join(missing)]) if missing else b"") + rest

        return Round(b"".join(parts), last, late_data), position

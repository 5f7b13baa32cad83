"""A group: the sessions of one variant, and the bytes that a flush makes for all of them at once.

If the variant is compressed, they share one compressor. A session joins its stream at a cut. Until then, and after it
was sent something that the others were not sent, it is apart: it is written standalone bytes, which are made once for
all sessions that are apart.

No I/O, no asyncio: callers pass ``now``. Sessions are only keys here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Final, NamedTuple, Protocol

from ..model.notices import End, Notice
from ..model.tick import Position
from ..model.view import Payload, cut
from ..reading.cursor import Cursor, Item, RawBlocks, Span
from ..reading.feed import Feed
from ..wire.checksum import NOTHING, Checksum
from ..wire.framing import Framed, SharedStream
from .batch_messages import BatchMessages, Message
from .encoder import Encoder, Variant
from .flush import FlushPolicy
from .session_state import State

_ALL: Final = 1 << 60  # bytes: no bound, since the horizon bounds what a flush reads


class Member(Protocol):
    """What the fan-out needs from a session; see ``session``."""

    variant: Variant
    state: State

    def write(self, data: bytes) -> None: ...
    def write_alone(self, piece: Framed) -> None: ...
    def write_last(self, data: bytes, end: Notice) -> None: ...
    def sweep(self, now: float, group_wrote: float) -> None: ...
    def wake(self) -> None: ...
    def fall_back(self) -> None: ...
    def pump(self) -> None: ...
    def finish(self) -> None: ...
    def end(self, reason: str) -> None: ...
    def abort(self) -> None: ...


class Round(NamedTuple):
    """What a flush writes: ``data`` to every live session of the group; ``end``: a notice in it after which each stream
    has to be closed, or None.

    ``late_piece`` returns the bytes for a session that joined when this many payloads of the first message had already
    been gathered; ``apart_data`` the bytes for a session that is apart, with the same content as ``data``.
    """

    data: bytes
    end: Notice | None
    late_piece: Callable[[int], Framed] | None = None
    apart_data: Callable[[], bytes] | None = None


class Group:
    """The sessions of one variant.

    Attributes:
        live: sessions at ``position``; the value is the last round in which they were written to.
        late: live sessions that joined while a message was being gathered: how many payloads it held, their position,
            and the content of the stream then.
        apart: live sessions that do not share the stream.
        waiting: sessions that read by themselves and have nothing to read now.
        position: the last tick that live sessions were given.
        previous: that before the current round, for sessions that it has not reached yet.
        cursor: how far the group has read; ahead of ``position`` by what is ``gathered``.
        behind: the next ticks are no longer in memory.
        gathered: payloads of a batch message that is not full yet.
        gathered_run: their run.
        flush_at: when they are sent even if the message is not full, or None.
        round: number of flushes that wrote something.
        quiet_since: when something was last written.
        key: its key in the fan-out.
    """

    __slots__ = (
        "_before_complete", "_began", "_inside", "_previous_content", "_shared", "_ticks", "_was_inside", "apart",
        "behind", "cursor", "flush_at", "gathered", "gathered_run", "key", "late", "live", "position", "previous",
        "quiet_since", "round", "variant", "waiting",
    )  # fmt: skip

    def __init__(self, variant: Variant, now: float) -> None:
        self.variant = variant
        self.key = variant, True
        self.live: dict[Member, int] = {}
        self.late: dict[Member, tuple[int, Position | None, Checksum]] = {}
        self.waiting: set[Member] = set()
        self.position: Position | None = None
        self.previous: Position | None = None
        self.cursor = Cursor()
        self.behind = False
        self._before_complete = True  # the cursor's, before the current round
        self.gathered: list[Payload] = []
        self.gathered_run = ""
        self.flush_at: float | None = None
        self.round = 0
        self.quiet_since = now
        self.apart: set[Member] = set()
        self._shared: SharedStream | None = None  # the stream's compressor, while there are live sessions
        self._previous_content = NOTHING  # that of live sessions before the current round
        self._inside = False  # the stream is between two cuts
        self._was_inside = False  # the same before the current round
        self._ticks = 0  # in this section
        self._began = 0.0  # start of this section

    @property
    def empty(self) -> bool:
        return not self.live and not self.waiting

    def join(self, session: Member, position: Position | None, offered: Position | None, complete: bool = True) -> bool:
        """Make a session live if it is where the group has read to; returns whether it is.

        Args:
            complete: nothing of its run was skipped for it; all live sessions have this in common.
        """
        if not self.live:
            if position != offered:
                return False
            self.cursor = Cursor(position, self.variant.until_run, complete)
            self._before_complete = complete
            self.behind = False
            self.position = position
            self.gathered = []
            self.flush_at = None
            self._shared = self.variant.framing.shared()
            self._inside = self._was_inside = False
        elif position != self.cursor.position or complete != self.cursor.complete:
            return False
        if self.gathered:
            self.late[session] = len(self.gathered), position, self.content
        if self._shared is not None and (self._inside or self.gathered):
            self.apart.add(session)
        self.live[session] = self.round
        return True

    @property
    def content(self) -> Checksum:
        """The checksum of everything that live sessions were sent since the shared stream began, in it or apart.
        The difference of two values (``Checksum.after``) is what was sent in between."""
        return NOTHING if self._shared is None else self._shared.content

    def content_of(self, session: Member) -> Checksum:
        """The same for one live session, which the current round may not have reached."""
        if session in self.late:
            return self.late[session][2]
        return self.content if self.live.get(session) == self.round else self._previous_content

    def leave(self, session: Member) -> tuple[Position | None, bool, bytes]:
        """Remove a session; returns the last tick that it was given (None: it was not live), whether nothing of that
        run was skipped for it, and bytes that it has to be written before anything else."""
        self.waiting.discard(session)
        if session not in self.live:
            return None, True, b""
        position, rest = self.position_of(session), self._rest_of(session)
        complete = self.cursor.complete if self.live[session] == self.round else self._before_complete
        del self.live[session]
        self.late.pop(session, None)
        self.apart.discard(session)
        if not self.live:
            self._shared = None  # compressors are large
        return position, complete, rest

    def step_apart(self, session: Member) -> bytes:
        """A session is sent a heartbeat that others may not be sent. If heartbeats are part of the stream, it does not
        share the stream until the next cut. Returns bytes that it has to be written before the heartbeat."""
        if self._shared is None or not self._shared.beats_inside or session not in self.live:
            return b""
        rest = self._rest_of(session)
        self.apart.add(session)
        return rest

    def _rest_of(self, session: Member) -> bytes:
        """The bytes that a session needs before bytes that are not from the shared stream."""
        if self._shared is None or session in self.apart or session not in self.live:
            return b""
        inside = self._inside if self.live[session] == self.round else self._was_inside
        return self._shared.rest if inside else b""

    def position_of(self, session: Member) -> Position | None:
        """The last tick that a live session was given."""
        if session in self.late:
            return self.late[session][1]
        return self.position if self.live.get(session) == self.round else self.previous

    def advance(
        self, feed: Feed, encoder: Encoder, policy: FlushPolicy, now: float, end: str | None = None
    ) -> Round | None:
        """Read on to the horizon and make the bytes for it; None if there is nothing to write. ``end``: why this is the
        last round.

        If the next ticks are no longer in memory (``behind``), nothing is made: each session reads by itself.

        The caller writes the bytes to every live session whose value is not yet ``round``, and then sets it. After an
        exception all sessions have to leave, because what they share is in an undefined state.
        """
        content = self.content
        try:
            return self._advance(feed, encoder, policy, now, end)
        except Exception:
            if self._shared is not None:
                self._shared.content = content  # sessions that leave now were sent what was sent before
            raise

    def _advance(self, feed: Feed, encoder: Encoder, policy: FlushPolicy, now: float, end: str | None) -> Round | None:
        before, content = self.cursor, self.content
        portion = feed.read(before, now, _ALL)
        self.behind = portion.waits
        if self.behind:
            return None
        cursor, items = portion.cursor, list[Item | End](portion.items)
        if end is not None:
            items.append(End(end, cursor.position))
        elif cursor.over:
            items.append(End("run", cursor.position))
        self._join_up()
        if self.variant.view.batch:
            made, position = self._gather(cursor, items, now, encoder, policy)
        else:
            made, position = self._make(items, encoder), cursor.position
        self.cursor = cursor
        if not made.data and made.end is None:
            self.position = position
            return None
        self.previous, self.position, self._before_complete = self.position, position, before.complete
        self._previous_content = content
        self.round += 1
        self.quiet_since = now
        return made if self._shared is None else self._cut_if_due(made, items, now, policy)

    def _join_up(self) -> None:
        """Let sessions join the shared stream, if it is at a cut or nobody shares it."""
        if self._shared is None:
            return
        if self._inside and len(self.apart) == len(self.live):
            self._shared.cut()
            self._inside = False
        if not self._inside and self.apart:
            self.apart = set(self.late)
        self._was_inside = self._inside

    def _cut_if_due(self, made: Round, items: Sequence[Item | End], now: float, policy: FlushPolicy) -> Round:
        """Cut the stream after what was made, if its section is long or old enough."""
        assert self._shared is not None
        if not self._inside:
            self._inside, self._ticks, self._began = True, 0, now
        self._ticks += sum(item.end - item.begin for item in items if isinstance(item, Span))
        long = self._ticks >= policy.section_ticks or now - self._began >= policy.section_seconds
        if not long and made.end is None:
            return made
        self._shared.cut()
        self._inside = False
        return made if made.end is not None else made._replace(data=made.data + self._shared.rest)

    def _make(self, items: Sequence[Item | End], encoder: Encoder) -> Round:
        if self._shared is None:
            encoded = encoder.encode(self.variant, items)
            return Round(encoded.piece.data, encoded.end)
        encoded = encoder.encode_shared(self._shared, self.variant, items)
        apart = cache(lambda: encoder.encode(self.variant, items).piece.data)
        return Round(encoded.piece.data, encoded.end, None, apart)

    def _gather(
        self, cursor: Cursor, items: Sequence[Item | End], now: float, encoder: Encoder, policy: FlushPolicy
    ) -> tuple[Round, Position | None]:
        """Gather payloads up to a cursor into messages that are the same for all; an incomplete one is sent when its
        time is up, or before a notice."""
        framing, view = self.variant.framing, self.variant.view
        told = BatchMessages(framing)
        position = self.position

        def message(payloads: list[Payload]) -> None:
            nonlocal position
            told.parts.append(Message(self.gathered_run, payloads))
            position = Position(self.gathered_run, payloads[-1].t)

        for item in items:
            if isinstance(item, Span):
                self.gathered_run = item.batch.run.id
                self.gathered += encoder.payloads(view, item)
                while (size := cut(self.gathered, view.batch)) is not None:
                    message(self.gathered[:size])
                    self.gathered = self.gathered[size:]
                continue
            assert not isinstance(item, RawBlocks), "live sessions read from memory"
            if self.gathered:
                message(self.gathered)
                self.gathered = []
            told.parts.append(item)
            position = item.position
            if framing.ends(item):
                told.end = item
                break
        if self.gathered and self.flush_at is not None and now >= self.flush_at:
            message(self.gathered)
            self.gathered = []
        if not self.gathered:
            self.flush_at, position = None, cursor.position
        elif self.flush_at is None or told.parts:
            self.flush_at = now + policy.batch_seconds
        data = told.data() if self._shared is None else told.shared_data(self._shared)
        return Round(data, told.end, told.piece, cache(told.data)), position

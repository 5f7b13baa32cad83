"""A witness reads one client's stream beside the truth and objects to whatever the wire contract does not allow.

Each tick that the view lets through arrives once, in order, byte for byte, or a notice accounts for it. No notice
accounts for what was not lost.
"""

import json
from dataclasses import replace
from typing import Any

from tick_gateway.model.query import Query
from tick_gateway.model.tick import UNKNOWN_RUN, Position
from tick_gateway.model.view import View

from ..support.decoders import Message
from .start import Start
from .talk import Talk
from .truth import Told, Truth, expected


class Witness:
    """Stands beside one client for as long as it lives, over as many connections as it makes."""

    def __init__(self, truth: Truth, view: View, query: Query, kind: str) -> None:
        self.truth = truth
        self.view = view
        self.kind = kind  # sse, ndjson, ws or bare
        self.run: str | None = None
        self.t = -1
        self.rest_gone = False  # a gap said that the rest of the run cannot be read
        self.gapped = False  # there was a gap in this run
        self.connect(query)

    def connect(self, query: Query) -> None:
        """A connection begins."""
        self.query = query
        self.count = 0
        self.start: Start | None = None
        self.jump = False  # lag=skip: the next tick may be any
        self.fresh = True  # nothing came yet
        self.not_before = 0  # on an empty bus, a since passes over what was received before it
        self.ended: str | None = None
        self.closed: int | None = None
        self.paused = False
        self.talk = Talk(self)
        self._stand(query.start if isinstance(query.start, Position) else Position("", -1))
        self.beyond = isinstance(query.start, Position) and self.truth.beyond(query.start)
        if isinstance(query.start, Position):
            return
        tip = self.truth.bus.tip
        self.not_before = query.since or 0 if tip is None else 0
        if query.run is not None and query.tail is None and query.start is None:
            self._stand(Position(query.run, -1))
        elif query.run is not None:
            self.start = Start(query.tail or 0, query.run, self.truth.bus.runs[query.run].shown, query.start)
        else:
            count = 1 if query.tail is None else query.tail
            self.start = Start(count, tip.run if tip else None, tip.t if tip else -1, query.start)

    def named(self, run: str | None) -> None:
        """Where its query names no position, the head of the answer names the run."""
        if self.start is not None:
            self.run = run

    def _stand(self, position: Position) -> None:
        self.rest_gone = self.gapped = False
        self.run, self.t = position

    @property
    def position(self) -> Position | None:
        """What the client knows of where it stands."""
        return None if self.start is not None or self.run is None else Position(self.run, self.t)

    def started(self, position: Position, not_before: int | None) -> None:
        """Nothing came yet, and the gateway stands here: all after it must come that was received at ``not_before`` or
        later."""
        start = self.start
        if start is None or (start.bare is not None and position.t != start.bare):  # then a reset is under way
            return
        told = f"told run {self.run}, begins in {position.run}"
        assert self.run in (None, position.run) or self.query.since is not None, told
        start.check(self.truth, self.view.every, self.query, position, not_before)
        self.start, self.not_before = None, not_before or 0
        self._stand(position)

    # ---- what comes ----

    def see(self, message: Message) -> None:
        assert self.closed is None, f"{message} after the close"
        if message.name == "close":
            self._close(message)
        elif message.name in ("ping", "pong"):
            pass
        elif self.kind == "sse" and message.name != (self.query.event or "message"):
            body = json.loads(message.data)
            assert body["notice"] == message.name
            self._notice(body, message)
        else:
            body = json.loads(message.data)
            if isinstance(body, list) or "t" in body:
                self._ticks(body if isinstance(body, list) else [body], message)
            elif "notice" in body:
                assert self.kind != "sse"
                self._notice(body, message)
            else:
                self.talk.answer(body)

    def _ticks(self, items: list[Any], message: Message) -> None:
        view = self.view
        assert bool(view.batch) == message.data.startswith(b"[")
        assert len(items) <= max(view.batch, 1)
        told = [self.truth.told(item, view) for item in items]
        body = b",".join(expected(view, one) for one in told)
        assert message.data == (b"[%s]" % body if view.batch else body), f"{message.data!r} is not {body!r}"
        if self.kind == "sse":
            assert message.id == f"{told[-1].run}:{told[-1].t}"
        assert len({one.run for one in told}) == 1, "a message with ticks of two runs"
        for one in told:
            self._arrive(one)

    def _arrive(self, told: Told) -> None:
        assert not self.paused and self.ended is None, f"{told} while paused, or after the end"
        assert told.t % self.view.every == 0
        if self.start is not None:
            self.run = self.run or told.run
            self._begin(told)
        if told.run != self.run:
            assert self.kind == "bare", f"{told} without a reset from {self.run}"
            self._cross(told.run)
        assert not self.rest_gone, f"{told} after a gap to the end of the run"
        assert told.t > self.t, f"{told} again, or out of order after {self.t}"
        if not self.jump:
            missed = self._owed(told.t - 1)
            assert not missed, f"{told} follows {self.run}:{self.t}; missed {missed}"
        self.jump = self.fresh = False
        self.not_before = 0
        self.t = told.t
        self.count += 1

    def _begin(self, told: Told) -> None:
        """The first tick of a stream that began on an empty bus."""
        assert self.start is not None and self.start.run is None, "its start was known when it connected"
        start, self.start = self.start, None
        assert told.run == self.run
        if start.bare is not None:
            self.t = start.bare
        else:
            assert told.run == next(iter(self.truth.lives)), f"{told} does not begin the first run"

    def _owed(self, upto: int) -> list[int]:
        """What must have come, or been told lost, before t = ``upto`` + 1 of this run."""
        assert self.run is not None
        every = self.view.every
        owed = self.truth.shown(self.run, self.t, upto, every) + self.truth.dropped(self.run, self.t, upto, every)
        if self.not_before:
            owed = [t for t in owed if self.truth.received(self.run, t) >= self.not_before]
        if self.jump:  # it was put before the newest tick that passes its view and that memory holds
            known, dropped = self.truth.bus.runs.get(self.run), self.truth.lives[self.run].dropped
            return [t for t in owed if known is not None and t > known.evicted and t not in dropped]
        return owed

    def _cross(self, to: str) -> None:
        """A bare client comes to a later run without a word: nothing may be missing before it."""
        while self.run != to:
            assert self.run is not None and not self._owed(1 << 60), f"missed {self._owed(1 << 60)} of {self.run}"
            follower = self.truth.follower(self.run)
            assert follower is not None
            self._stand(Position(follower, -1))

    # ---- notices ----

    def _notice(self, body: dict[str, Any], message: Message) -> None:
        assert self.kind != "bare" and self.ended is None
        getattr(self, f"_{body['notice']}")(body)
        if self.kind == "sse" and body["notice"] in ("gap", "reset"):
            assert message.id == str(Position(self.run or "", self.t)), "the id of a notice is the position after it"

    def _hello(self, body: dict[str, Any]) -> None:
        assert self.query.hello
        if self.start is not None and body["run"] is not None:
            self.run = body["run"]

    def _gap(self, body: dict[str, Any]) -> None:
        run, after, to = body["run"], body["after"], body["next"]
        if self.start is not None:
            assert self.run in (None, run)
            self.run, self.t = run, -1 if self.start.bare is None else self.start.bare
            self.start = None
        assert run == self.run and (not self.rest_gone or to is None), f"{body} at {self.run}:{self.t}"
        assert after >= self.t and (self.rest_gone or self.jump or not self._owed(after)), (
            f"{body} at {self.run}:{self.t} leaves out {self._owed(after)}"
        )
        upto = (1 << 60) if to is None else to - 1
        published, dropped = self.truth.shown(run, after, upto), self.truth.dropped(run, after, upto)
        assert published or dropped or self.truth.foggy(run, after), f"{body} accounts for nothing"
        if not self.query.skip and not (self.fresh and self.query.backlog is not None):
            still = [t for t in published if not self.truth.gone(run, t)]
            assert not still, f"{body} skips {still}, which memory holds"
        if to is None:
            self.rest_gone = True
            self.t = after
        else:
            # Who leaves out the past, and lets none through that is there, waits for what comes behind the tip.
            newest = self.query.skip or (self.fresh and self.query.backlog is not None)
            there = self.truth.shown(run, to - 1, to) or (newest and self.truth.shown(run, to - 2, to))
            assert to > after + 1 and there, f"{body}: there is no tick {to}"
            self.t = to - 1
        self.gapped, self.jump = True, False

    def _reset(self, body: dict[str, Any]) -> None:
        new, old, complete = body["run"], body["old"], body["complete"]
        if self.start is not None:
            assert self.run in (None, old, new) or self.query.since is not None  # new: a hello named it
            bare, self.run, self.start = self.start.bare, old, None
            self.t = -1 if bare is None else bare
            if old == new:
                assert not complete and bare is not None and bare > -1
                self._stand(Position(new, -1))
                return
        assert old == (None if self.run == UNKNOWN_RUN else self.run), f"{body} at {self.run}:{self.t}"
        assert new in self.truth.lives
        if self.run not in self.truth.lives:
            assert not complete and self.fresh
        elif self.fresh and self.beyond and not complete and new in (self.run, self.truth.follower(self.run)):
            pass  # it waited for the tip, or a run began meanwhile
        elif not self.query.skip or complete:
            assert new == self.truth.follower(self.run), f"{body}: {self.truth.follower(self.run)} follows"
            assert self.rest_gone or not self._owed(1 << 60), f"{body} leaves out {self._owed(1 << 60)}"
            # Those who are live share one notice, whichever gaps each of them had before.
            life = self.truth.lives[self.run]
            assert complete or self.gapped or life.fog > -1 or self.truth.holes(self.run), body
        self.jump = self.query.skip and not complete
        self.rest_gone = self.gapped = False
        self.run, self.t = new, -1

    def _end(self, body: dict[str, Any]) -> None:
        reason, query = body["reason"], self.query
        if reason == "limit":
            assert self.count == query.limit
        elif reason == "run":
            assert self.run is not None and self.run == query.run and self.truth.bus.runs[self.run].ended
            assert self.rest_gone or not self._owed(1 << 60), f"{body} leaves out {self._owed(1 << 60)}"
        else:
            assert reason == "shutdown" and self.truth.draining
        self._check_position(body["position"])
        self.ended = reason

    def _check_position(self, text: str | None) -> None:
        """A position that the gateway tells: no tick that the view lets through lies before it that did not come."""
        if text is not None and self.start is not None and self.start.run is None and self.start.bare is None:
            self._stand(Position(next(iter(self.truth.lives)), -1))  # it began on an empty bus
            self.start = None
        if self.start is not None or text is None:
            return
        run, _, t = text.rpartition(":")
        if self.jump:
            assert run == self.run and int(t) >= self.t
            self.t, self.jump = int(t), False
        if run != self.run:
            assert self.kind == "bare", f"at {text}, the client stands at {self.run}:{self.t}"
            return
        assert int(t) >= self.t and (self.rest_gone or not self._owed(int(t))), f"{text} at {self.run}:{self.t}"

    def _close(self, message: Message) -> None:
        self.closed = message.code
        reason = message.data.decode()
        if message.code == 4001:
            assert self.kind == "bare"
            _, _, after = reason.partition("gap after ")
            run, _, t = after.rpartition(":")
            if self.start is None and run != self.run:
                self._cross(run)
            self._stand(Position(run, int(t)))
            self.start = None
            lost = self.truth.shown(run, int(t), 1 << 60) + self.truth.dropped(run, int(t), 1 << 60)
            assert lost or self.truth.foggy(run, int(t)), f"{reason}: nothing was lost"
        elif message.code == 1001:
            assert self.truth.draining
        else:
            assert message.code == 1000 and self.ended, message

    # ---- for the answers to commands ----

    def moved(self, text: str | None) -> None:
        """A position that the gateway told with a command's effect: the client knows it from here on."""
        self._check_position(text)
        if text is not None and self.start is None:
            self.t = max(self.t, int(text.rpartition(":")[2]))

    def sought(self, start: Position, beyond: bool) -> None:
        """The stream goes on after another position. ``beyond``: it lay beyond the tip when it was asked for."""
        self.start, self.jump, self.fresh, self.beyond = None, False, True, beyond
        self.query = replace(self.query, start=start, tail=None, since=None, backlog=None)
        self._stand(start)

    # ---- at the end ----

    def has_all(self, tip: tuple[str, int] | None) -> None:
        """Nothing that the view lets through is left up to the tip."""
        if tip is None or self.start is not None or self.closed == 4001 or self.ended in ("run", "limit"):
            return
        if self.run != tip[0]:
            assert self.kind == "bare", f"stuck at {self.run}:{self.t}, the tip is {tip}"
            self._cross(tip[0])
        # That the newest ticks cannot be read is told when the next one comes.
        missing = [t for t in self._owed(tip[1]) if not self.truth.gone(tip[0], t)]
        assert not missing, f"stuck at {self.run}:{self.t}; missing {missing}"

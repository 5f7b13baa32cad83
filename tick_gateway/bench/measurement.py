"""The steps of one case, in the process that steers.

A first tick, then readers, who all get it; the gateway's memory before and after they came; ticks at the rate for the
time that was asked for, and waiting until all have the last one; then a late reader who has everything to catch up
with. Every wait ends when the patience is over.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import Connection as Pipe
from typing import Final

from ..transports import TRANSPORTS
from . import proc
from .network import Network
from .place import Place
from .plan import FEWEST, BenchError, Outcome, Plan
from .publisher import Errand, Published, Publisher, serve
from .readers import Order, Tally, read
from .speech import Speech
from .stage import RUN_PREFIX, Crew, OwnGateway, Target
from .stats import median

Show = Callable[[Outcome, str], None]
"""Is told what is known of a case, and what is being done; empty: it is over."""

_SETTLE_SECONDS: Final = 0.3
_HEAR_SECONDS: Final = 0.25
_CATCH_UPS: Final = 3
_BUSY: Final = 0.9  # of a core, from which the readers hold everything up
_SLOW: Final = 0.95  # of the rate, below which it has to be said


class Measurement:
    """One case on its way.

    Args:
        network: in between, None for loopback.
        target: the gateway; None: one of its own.
    """

    def __init__(
        self, plan: Plan, outcome: Outcome, network: Network | None, target: Target | None, show: Show
    ) -> None:
        self.plan, self.outcome, self.show = plan, outcome, show
        self._given = target
        self._gateway = network.gateway if network else None
        self._place: Place | None = network.readers if network else None
        self._run = f"{RUN_PREFIX}{os.getpid()}-{time.time_ns() // 1000 % 10**9}"
        self._tallies: dict[Pipe, Tally] = {}
        self._published: Published | None = None

    def run(self) -> None:
        """Fill in the outcome.

        Raises:
            BenchError: it does not come to figures.
        """
        speech = self._speech("")
        if speech.pull:  # one that did not read could not ask again
            self.outcome.kind, self.outcome.checked = "pull", self.plan.clients
        if not speech.spoken:
            raise BenchError(f"{self.outcome.case.transport} has no coding {speech.encoding}")
        with self._target() as target, Crew() as crew:
            self._crew, self._at = crew, target
            self._pipe = crew.start(serve, self._publisher(), self._gateway)
            self._say("the first tick")
            self._publish(Errand(self._run, 0, 1))
            pipes = self._connect()
            if self.outcome.coding != speech.encoding and self._repeats(speech):
                raise BenchError(f"asked for {speech.encoding}, the gateway gave {self.outcome.coding}")
            self._live(pipes)
            for pipe in pipes:
                crew.dismiss(pipe)
                del self._tallies[pipe]
            self._catch_up()

    def _target(self) -> AbstractContextManager[Target]:
        return nullcontext(self._given) if self._given is not None else OwnGateway(self.plan, self._gateway)

    def _repeats(self, speech: Speech) -> bool:
        """Whether what was asked for in vain would measure again what another case measures."""
        return speech.encoding != "identity" and self.outcome.coding in self.plan.encodings

    def _speech(self, host: str, base: str = "") -> Speech:
        plan, case = self.plan, self.outcome.case
        transport = next(one for one in TRANSPORTS if one.name == case.transport)
        pull = transport.kind == "pull"
        query = {
            "fields": f"ts,{plan.fields}" if plan.fields else "",
            "every": str(plan.every) if plan.every > 1 else "",
            "batch": str(plan.batch) if plan.batch else "",
            "limit": str(plan.limit) if pull else "",
        }
        given = tuple((name, value) for name, value in query.items() if value)
        return Speech(host, base + transport.path, pull, case.encoding, transport.media_type, given)

    def _publisher(self) -> Publisher:
        at, plan = self._at, self.plan
        return Publisher(at.publisher, at.host, at.base, plan.token, plan.size, plan.patience, at.tls)

    def _order(self, clients: int, checked: int, after: int, until: int | None = None) -> Order:
        speech = self._speech(self._at.host, self._at.base)
        return Order(
            self._place, self._at.readers, speech, self._run, after, clients, checked, self.plan.every,
            self.plan.pause, until, self._at.tls,
        )  # fmt: skip

    # ---- talking with the processes ----

    def _say(self, doing: str) -> None:
        self.show(self.outcome, doing)

    def _listen(self, seconds: float) -> Iterator[float]:
        """Hear what there is until the time is up; gives the seconds that are left, after each time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for pipe, said in self._crew.hear(min(left, _HEAR_SECONDS)):
                if isinstance(said, Tally):
                    self._tallies[pipe] = said
                else:
                    self._published = said
            yield left

    def _publish(self, errand: Errand, doing: str = "") -> Published:
        """Send the publisher off, and wait until it is back."""
        self._published = None
        self._pipe.send(errand)
        took = errand.count / errand.rate if errand.rate else 0.0
        for _ in self._listen(took * 2 + self.plan.patience):
            if self._published is not None:
                break
            if doing:
                self._fill(doing)
        done: Published | None = self._published
        if done is None:
            raise BenchError(
                f"the gateway did not take {errand.count} ticks within {took * 2 + self.plan.patience:g} s"
            )
        if done.problem:
            raise BenchError(done.problem)
        return done

    def _total(self, pipes: list[Pipe]) -> Tally | None:
        """What all of them saw; None as long as one has said nothing."""
        if any(pipe not in self._tallies for pipe in pipes):
            return None
        total = Tally(begun=True, done=True)
        for pipe in pipes:
            total.merge(self._tallies[pipe])
        return total

    # ---- the steps ----

    def _connect(self) -> list[Pipe]:
        """Bring the readers in, and see what they cost while nothing happens."""
        plan, outcome = self.plan, self.outcome
        watched = self._watched()
        if watched is not None:  # what the first reader of its kind brings into memory is not another one's
            self._await_one(self._order(1, 1, -1))
        before = proc.resident(watched) if watched is not None else 0
        self._say(f"{plan.clients} connections")
        pipes = []
        for index in range(plan.processes):
            clients, checked = (len(range(index, all_, plan.processes)) for all_ in (plan.clients, outcome.checked))
            if clients:
                pipes.append(self._crew.start(read, self._order(clients, checked, -1)))
        for _ in self._listen(plan.patience):
            if (total := self._total(pipes)) is not None and total.begun:
                break
        total = self._total(pipes)
        if total is None or not total.begun:
            problem = f": {total.problem}" if total is not None and total.problem else ""
            raise BenchError(f"not all connections had their first tick within {plan.patience:g} s{problem}")
        if total.cut == plan.clients:
            raise BenchError(f"no connection is of use: {total.problem}")
        outcome.coding, outcome.first_tick = total.coding, total.first_tick
        if watched is not None and plan.clients >= FEWEST:
            for _ in self._listen(_SETTLE_SECONDS):
                continue
            outcome.memory = (proc.resident(watched) - before) / plan.clients
        elif watched is not None:
            outcome.why["memory"] = f"fewer than {FEWEST} connections"
        return pipes

    def _live(self, pipes: list[Pipe]) -> None:
        """Ticks at the rate, until everybody has the last one."""
        plan, outcome = self.plan, self.outcome
        count = max(round(plan.rate * plan.seconds), 1)
        began = time.monotonic()
        first = self._total(pipes)
        assert first is not None, "they said that they had begun"
        watched, load = self._watched(), [pid for pipe in pipes if (pid := self._crew.pid(pipe)) is not None]
        before = proc.cpu_seconds(watched) if watched is not None else 0.0
        load_before = sum(map(proc.cpu_seconds, load)) if proc.available() else 0.0
        done = self._publish(Errand(self._run, 1, count, plan.rate), "live")
        outcome.published, outcome.seconds = done.count, done.seconds
        for pipe in pipes:
            pipe.send(self._last(count))
        for _ in self._listen(plan.patience):
            self._fill("the last ticks")
            if (total := self._total(pipes)) is not None and total.done:
                break
        if watched is not None:
            outcome.cpu_seconds = proc.cpu_seconds(watched) - before
        busy = (sum(map(proc.cpu_seconds, load)) - load_before) / len(load) if proc.available() else 0.0
        self._tell(pipes, first)
        self._remarks(busy / (time.monotonic() - began))

    def _tell(self, pipes: list[Pipe], first: Tally) -> None:
        """Take over what the readers saw, less what was before the first live tick."""
        total, outcome = self._total(pipes), self.outcome
        assert total is not None, "they said so before"
        outcome.ticks, outcome.bytes = total.ticks - first.ticks, total.bytes - first.bytes
        outcome.lost, outcome.repeated, outcome.behind = total.lost, total.repeated, total.behind
        outcome.cut, outcome.latency = total.cut, total.latency
        if total.cut:
            outcome.remark = f"{total.cut} of {outcome.clients} connections broke: {total.problem}"

    def _remarks(self, busy: float) -> None:
        plan, outcome = self.plan, self.outcome
        remarks = [outcome.remark] if outcome.remark else []
        if not outcome.given:
            remarks.append(f"asked for {outcome.case.encoding}, the gateway gave {outcome.coding}")
        if outcome.published / max(outcome.seconds, 1e-9) < plan.rate * _SLOW and outcome.published > 1:
            remarks.append(f"{outcome.published / outcome.seconds:.0f} ticks/s were published instead of {plan.rate:g}")
        if busy > _BUSY:
            remarks.append(f"the readers took {busy:.0%} of a core each and may be what held it up")
        outcome.remark = "; ".join(remarks)

    def _fill(self, doing: str) -> None:
        """Show what the readers have so far."""
        total = Tally()
        for tally in self._tallies.values():
            total.merge(tally)
        outcome = self.outcome
        outcome.ticks, outcome.bytes, outcome.latency = total.ticks, total.bytes, total.latency
        outcome.lost, outcome.repeated = total.lost, total.repeated
        self._say(doing)

    def _catch_up(self) -> None:
        """A reader that comes late, some times, each time from the same position."""
        plan, outcome = self.plan, self.outcome
        if not plan.catch_up:
            outcome.why["catch_up"] = "not asked for"
            return
        self._say(f"catching up {plan.catch_up:,} ticks")
        tip = outcome.published
        try:
            self._publish(Errand(self._run, tip + 1, plan.catch_up))
            took: list[float] = []
            while len(took) < _CATCH_UPS and sum(took) < plan.patience / 2:
                tally = self._await_one(self._order(1, 1, tip, self._last(tip + plan.catch_up)))
                if tally.lost:
                    raise BenchError("the gateway's memory does not reach back so far")
                if not tally.reached:
                    raise BenchError(tally.problem or f"not done within {plan.patience:g} s")
                took.append(tally.reached[0] / 1e9)
            outcome.catch_up = median(took)
        except BenchError as problem:
            outcome.why["catch_up"] = str(problem)

    def _await_one(self, order: Order) -> Tally:
        """A process of readers, until it has what it waits for; where it does not get it, what it had."""
        pipe = self._crew.start(read, order)
        try:
            for _ in self._listen(self.plan.patience):
                tally = self._tallies.get(pipe)
                if tally is not None and (tally.done if order.until is not None else tally.begun):
                    break
            return self._tallies.get(pipe) or Tally()
        finally:
            self._crew.dismiss(pipe)
            self._tallies.pop(pipe, None)

    def _last(self, tip: int) -> int:
        """The last tick up to the tip that passes the view."""
        return tip - tip % self.plan.every

    def _watched(self) -> int | None:
        """The gateway's process, where /proc shows it; else says why there will be no figures of it."""
        pid, why = self._at.pid, self.outcome.why
        if not proc.available():
            reason = "this system has no /proc"
        elif pid is None:
            reason = "the gateway's process is not known (--pid)"
        elif not proc.alive(pid):
            reason = f"there is no process {pid}"
        else:
            return pid
        why["cpu"] = why["memory"] = reason
        return None

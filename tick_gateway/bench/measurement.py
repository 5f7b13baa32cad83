"""Measures all cases of a scenario, one after another, from the controlling process (``measure``).

First a tick, then readers, which all get it; the gateway's memory before and after they connected; ticks at the given
rate and for the given time, until all readers have the last one; then a late reader that has to catch up. Every wait
ends when the patience is over.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from multiprocessing.connection import Connection as Pipe
from typing import Final

from ..transports import TRANSPORTS
from . import proc_stats as proc
from .cases import LOOPBACK, PROFILES, row_of
from .environment import RUN_PREFIX, OwnGateway, Target, target_of
from .exchange import RequestBuilder
from .network import Namespace, Network, NetworkUnavailable
from .processes import Workers, allow_files
from .publisher import JobReport, LoadPublisher, PublishJob, serve
from .readers import ReadCounts, ReadJob, read
from .scenario import FEWEST, BenchError, Outcome, Scenario
from .stats import median

Show = Callable[[Outcome, str], None]
"""Is told what is known of a case, and what is being done; empty: it is over."""

_SETTLE_SECONDS: Final = 0.3
_RECEIVE_SECONDS: Final = 0.25
_CATCH_UPS: Final = 3
_BUSY: Final = 0.9  # of a core; readers that use more may be the bottleneck
_SLOW: Final = 0.95  # of the rate; below it, the outcome has a remark


class Measurement:
    """A running measurement of one case.

    Args:
        network: None for loopback.
        target: the gateway; None: one of its own.
    """

    def __init__(
        self, scenario: Scenario, outcome: Outcome, network: Network | None, target: Target | None, show: Show
    ) -> None:
        self.scenario, self.outcome, self.show = scenario, outcome, show
        self._given = target
        self._gateway = network.gateway if network else None
        self._namespace: Namespace | None = network.readers if network else None
        self._run = f"{RUN_PREFIX}{os.getpid()}-{time.time_ns() // 1000 % 10**9}"
        self._counts: dict[Pipe, ReadCounts] = {}
        self._published: JobReport | None = None

    def run(self) -> None:
        """Fill in the outcome.

        Raises:
            BenchError: no figures can be measured.
        """
        requests = self._requests("")
        if requests.pull:  # one that did not read could not ask again
            self.outcome.kind, self.outcome.checked = "pull", self.scenario.clients
        if not requests.possible:
            raise BenchError(f"{self.outcome.case.transport} has no coding {requests.encoding}")
        with self._target() as target, Workers() as workers:
            self._workers, self._at = workers, target
            self._pipe = workers.start(serve, self._publisher(), self._gateway)
            self._say("the first tick")
            self._publish(PublishJob(self._run, 0, 1))
            pipes = self._connect()
            if self.outcome.coding != requests.encoding and self._repeats(requests):
                raise BenchError(f"asked for {requests.encoding}, the gateway gave {self.outcome.coding}")
            self._live(pipes)
            for pipe in pipes:
                workers.stop(pipe)
                del self._counts[pipe]
            self._catch_up()

    def _target(self) -> AbstractContextManager[Target]:
        return nullcontext(self._given) if self._given is not None else OwnGateway(self.scenario, self._gateway)

    def _repeats(self, requests: RequestBuilder) -> bool:
        """Whether the gateway did not apply the encoding, so that this would repeat another case."""
        return requests.encoding != "identity" and self.outcome.coding in self.scenario.encodings

    def _requests(self, host: str, base: str = "") -> RequestBuilder:
        scenario, case = self.scenario, self.outcome.case
        transport = next(one for one in TRANSPORTS if one.name == case.transport)
        pull = transport.kind == "pull"
        query = {
            "fields": f"ts,{scenario.fields}" if scenario.fields else "",
            "every": str(scenario.every) if scenario.every > 1 else "",
            "batch": str(scenario.batch) if scenario.batch else "",
            "limit": str(scenario.limit) if pull else "",
        }
        given = tuple((name, value) for name, value in query.items() if value)
        websocket = row_of(transport.name, transport.kind).websocket
        return RequestBuilder(host, base + transport.path, pull, case.encoding, transport.media_type, websocket, given)

    def _publisher(self) -> LoadPublisher:
        at, scenario = self._at, self.scenario
        return LoadPublisher(at.publisher, at.host, at.base, scenario.token, scenario.size, scenario.patience, at.tls)

    def _job(self, clients: int, checked: int, after: int, until: int | None = None) -> ReadJob:
        requests = self._requests(self._at.host, self._at.base)
        return ReadJob(
            self._namespace, self._at.readers, requests, self._run, after, clients, checked, self.scenario.every,
            self.scenario.pause, until, self._at.tls,
        )  # fmt: skip

    # ---- communication with the processes ----

    def _say(self, doing: str) -> None:
        self.show(self.outcome, doing)

    def _receive(self, seconds: float) -> Iterator[float]:
        """Receive messages until the time is up; yields the seconds left, after each time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for pipe, said in self._workers.receive(min(left, _RECEIVE_SECONDS)):
                if isinstance(said, ReadCounts):
                    self._counts[pipe] = said
                else:
                    self._published = said
            yield left

    def _publish(self, job: PublishJob, doing: str = "") -> JobReport:
        """Send a job to the publisher, and wait until it is done."""
        self._published = None
        self._pipe.send(job)
        took = job.count / job.rate if job.rate else 0.0
        for _ in self._receive(took * 2 + self.scenario.patience):
            if self._published is not None:
                break
            if doing:
                self._fill(doing)
        done: JobReport | None = self._published
        if done is None:
            raise BenchError(
                f"the gateway did not take {job.count} ticks within {took * 2 + self.scenario.patience:g} s"
            )
        if done.problem:
            raise BenchError(done.problem)
        return done

    def _total(self, pipes: list[Pipe]) -> ReadCounts | None:
        """The sum over all readers' processes; None until each has reported."""
        if any(pipe not in self._counts for pipe in pipes):
            return None
        total = ReadCounts(begun=True, done=True)
        for pipe in pipes:
            total.merge(self._counts[pipe])
        return total

    # ---- the steps ----

    def _connect(self) -> list[Pipe]:
        """Connect the readers, and measure what they cost while nothing happens."""
        scenario, outcome = self.scenario, self.outcome
        watched = self._watched()
        if watched is not None:  # the first reader of its kind may load modules, which must not count
            self._await_one(self._job(1, 1, -1))
        before = proc.resident(watched) if watched is not None else 0
        self._say(f"{scenario.clients} connections")
        pipes = []
        for index in range(scenario.processes):
            clients, checked = (
                len(range(index, all_, scenario.processes)) for all_ in (scenario.clients, outcome.checked)
            )
            if clients:
                pipes.append(self._workers.start(read, self._job(clients, checked, -1)))
        for _ in self._receive(scenario.patience):
            if (total := self._total(pipes)) is not None and total.begun:
                break
        total = self._total(pipes)
        if total is None or not total.begun:
            problem = f": {total.problem}" if total is not None and total.problem else ""
            raise BenchError(f"not all connections had their first tick within {scenario.patience:g} s{problem}")
        if total.cut == scenario.clients:
            raise BenchError(f"no connection is of use: {total.problem}")
        outcome.coding, outcome.first_tick = total.coding, total.first_tick
        if watched is not None and scenario.clients >= FEWEST:
            for _ in self._receive(_SETTLE_SECONDS):
                continue
            outcome.memory = (proc.resident(watched) - before) / scenario.clients
        elif watched is not None:
            outcome.why["memory"] = f"fewer than {FEWEST} connections"
        return pipes

    def _live(self, pipes: list[Pipe]) -> None:
        """Publish at the rate, until every reader has the last tick."""
        scenario, outcome = self.scenario, self.outcome
        count = max(round(scenario.rate * scenario.seconds), 1)
        began = time.monotonic()
        first = self._total(pipes)
        assert first is not None, "they said that they had begun"
        watched, pool = self._watched(), [pid for pipe in pipes if (pid := self._workers.pid(pipe)) is not None]
        before = proc.cpu_seconds(watched) if watched is not None else 0.0
        load_before = sum(map(proc.cpu_seconds, pool)) if proc.available() else 0.0
        done = self._publish(PublishJob(self._run, 1, count, scenario.rate), "live")
        outcome.published, outcome.seconds = done.count, done.seconds
        for pipe in pipes:
            pipe.send(self._last(count))
        for _ in self._receive(scenario.patience):
            self._fill("the last ticks")
            if (total := self._total(pipes)) is not None and total.done:
                break
        if watched is not None:
            outcome.cpu_seconds = proc.cpu_seconds(watched) - before
        busy = (sum(map(proc.cpu_seconds, pool)) - load_before) / len(pool) if proc.available() else 0.0
        self._tell(pipes, first)
        self._remarks(busy / (time.monotonic() - began))

    def _tell(self, pipes: list[Pipe], first: ReadCounts) -> None:
        """Add the readers' counts, without those from before the first live tick."""
        total, outcome = self._total(pipes), self.outcome
        assert total is not None, "they said so before"
        outcome.ticks, outcome.bytes = total.ticks - first.ticks, total.bytes - first.bytes
        outcome.lost, outcome.repeated, outcome.behind = total.lost, total.repeated, total.behind
        outcome.cut, outcome.latency = total.cut, total.latency
        if total.cut:
            outcome.remark = f"{total.cut} of {outcome.clients} connections broke: {total.problem}"

    def _remarks(self, busy: float) -> None:
        scenario, outcome = self.scenario, self.outcome
        remarks = [outcome.remark] if outcome.remark else []
        if not outcome.given:
            remarks.append(f"asked for {outcome.case.encoding}, the gateway gave {outcome.coding}")
        if outcome.published / max(outcome.seconds, 1e-9) < scenario.rate * _SLOW and outcome.published > 1:
            remarks.append(
                f"{outcome.published / outcome.seconds:.0f} ticks/s were published instead of {scenario.rate:g}"
            )
        if busy > _BUSY:
            remarks.append(f"the readers took {busy:.0%} of a core each and may be what held it up")
        outcome.remark = "; ".join(remarks)

    def _fill(self, doing: str) -> None:
        """Show the readers' counts so far."""
        total = ReadCounts()
        for counts in self._counts.values():
            total.merge(counts)
        outcome = self.outcome
        outcome.ticks, outcome.bytes, outcome.latency = total.ticks, total.bytes, total.latency
        outcome.lost, outcome.repeated = total.lost, total.repeated
        self._say(doing)

    def _catch_up(self) -> None:
        """Measure a late reader several times, each time from the same position."""
        scenario, outcome = self.scenario, self.outcome
        if not scenario.catch_up:
            outcome.why["catch_up"] = "not asked for"
            return
        self._say(f"catching up {scenario.catch_up:,} ticks")
        tip = outcome.published
        try:
            self._publish(PublishJob(self._run, tip + 1, scenario.catch_up))
            took: list[float] = []
            while len(took) < _CATCH_UPS and sum(took) < scenario.patience / 2:
                counts = self._await_one(self._job(1, 1, tip, self._last(tip + scenario.catch_up)))
                if counts.lost:
                    raise BenchError("the gateway's memory does not reach back so far")
                if not counts.reached:
                    raise BenchError(counts.problem or f"not done within {scenario.patience:g} s")
                took.append(counts.reached[0] / 1e9)
            outcome.catch_up = median(took)
        except BenchError as problem:
            outcome.why["catch_up"] = str(problem)

    def _await_one(self, job: ReadJob) -> ReadCounts:
        """Wait for one process of readers; after the patience, returns its counts so far."""
        pipe = self._workers.start(read, job)
        try:
            for _ in self._receive(self.scenario.patience):
                counts = self._counts.get(pipe)
                if counts is not None and (counts.done if job.until is not None else counts.begun):
                    break
            return self._counts.get(pipe) or ReadCounts()
        finally:
            self._workers.stop(pipe)
            self._counts.pop(pipe, None)

    def _last(self, tip: int) -> int:
        """The last tick up to the tip that passes the view."""
        return tip - tip % self.scenario.every

    def _watched(self) -> int | None:
        """The gateway's process, if /proc shows it; else notes why its figures are missing."""
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


def measure(scenario: Scenario, show: Show) -> list[Outcome]:
    """Measure every case of a scenario.

    Raises:
        BenchError: there is nothing to measure.
    """
    allow_files(scenario.clients + 256)
    target = target_of(scenario) if scenario.url else None
    outcomes: list[Outcome] = []
    for network in scenario.networks:
        cases = [case for case in scenario.cases() if case.network == network]
        with ExitStack() as stack:
            try:
                link = stack.enter_context(Network(PROFILES[network])) if network != LOOPBACK else None
            except NetworkUnavailable as problem:
                for case in cases:
                    outcomes.append(Outcome(case, not_run=str(problem)))
                    show(outcomes[-1], "")
                continue
            for case in cases:
                outcome = Outcome(
                    case, clients=scenario.clients, checked=scenario.checked, network=link.by if link else ""
                )
                known = target is None or target.pid is not None
                own = [os.getpid(), *([target.pid] if target is not None and target.pid else [])]
                others = proc.Others(own) if proc.available() and known else None
                try:
                    Measurement(scenario, outcome, link, target, show).run()
                except BenchError as problem:
                    outcome.not_run = str(problem)
                outcome.others = others.share() if others is not None else None
                outcomes.append(outcome)
                show(outcome, "")
    return outcomes

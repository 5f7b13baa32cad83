"""All cases of a plan, one after another, network by network."""

from __future__ import annotations

import os
from contextlib import ExitStack

from . import proc
from .measurement import Measurement, Show
from .network import Network, NotAllowed
from .place import PROFILES
from .plan import LOOPBACK, BenchError, Outcome, Plan
from .stage import target_of


def measure(plan: Plan, show: Show) -> list[Outcome]:
    """Measure every case of a plan.

    Raises:
        BenchError: there is nothing to measure.
    """
    proc.allow_files(plan.clients + 256)
    target = target_of(plan) if plan.url else None
    outcomes: list[Outcome] = []
    for network in plan.networks:
        cases = [case for case in plan.cases() if case.network == network]
        with ExitStack() as stack:
            try:
                link = stack.enter_context(Network(PROFILES[network])) if network != LOOPBACK else None
            except NotAllowed as problem:
                for case in cases:
                    outcomes.append(Outcome(case, not_run=str(problem)))
                    show(outcomes[-1], "")
                continue
            for case in cases:
                outcome = Outcome(case, clients=plan.clients, checked=plan.checked, network=link.by if link else "")
                known = target is None or target.pid is not None
                own = [os.getpid(), *([target.pid] if target is not None and target.pid else [])]
                others = proc.Others(own) if proc.available() and known else None
                try:
                    Measurement(plan, outcome, link, target, show).run()
                except BenchError as problem:
                    outcome.not_run = str(problem)
                outcome.others = others.share() if others is not None else None
                outcomes.append(outcome)
                show(outcome, "")
    return outcomes

"""What a bench might have been asked and have measured, made by hand."""

from __future__ import annotations

from dataclasses import replace

from tick_gateway.bench.cases import LOOPBACK, Case
from tick_gateway.bench.scenario import Outcome, Scenario
from tick_gateway.bench.stats import Histogram


def scenario(**changes: object) -> Scenario:
    values: dict[str, object] = {
        "url": "", "pid": None, "token": "secret", "cacert": None, "insecure": False,
        "transports": ("websocket", "sse", "longpoll"),
        "encodings": ("identity",), "networks": (LOOPBACK,), "clients": 10, "checked": 10, "processes": 1,
        "rate": 100.0, "size": 1000, "seconds": 1.0, "fields": "", "every": 1, "batch": 0, "limit": 100, "pause": 0.05,
        "catch_up": 1000, "patience": 5.0,
    }  # fmt: skip
    return Scenario(**{**values, **changes})  # type: ignore[arg-type]


def outcome(transport: str, ms: float, cpu: float = 1e-5, size: int = 1000, **changes: object) -> Outcome:
    """A thousand ticks to ten connections, all of them ``ms`` old."""
    made = Outcome(
        Case(transport, "identity", LOOPBACK),
        "pull" if transport == "longpoll" else "stream",
        "identity",
        clients=10,
        checked=10,
        published=100,
        seconds=1.0,
        ticks=1000,
        latency=Histogram([round(ms * 1e6)] * 1000),
        first_tick=Histogram([round(ms * 1e6)] * 10),
        bytes=1000 * size,
        cpu_seconds=cpu * 1000,
        memory=2048.0,
        catch_up=0.1,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def three() -> list[Outcome]:
    return [outcome("websocket", 1), outcome("sse", 1.1), outcome("longpoll", 30, 4e-5, 1500)]

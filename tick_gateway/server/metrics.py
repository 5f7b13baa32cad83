"""Prometheus metrics, read from the hub when they are asked for: nothing is counted twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..hub import Hub

METRICS: Final = {
    "tick_gateway_ticks_published": "ticks taken in",
    "tick_gateway_ticks_dropped": "ticks lost to a full inbox",
    "tick_gateway_ring_ticks": "ticks in memory",
    "tick_gateway_ring_bytes": "bytes they take",
    "tick_gateway_connections": "streaming connections open",
    "tick_gateway_connections_live": "those of them that stand at the tip",
    "tick_gateway_flushes": "flush rounds",
    "tick_gateway_longest_round_seconds": "the longest flush round since the start",
}
_COUNTERS: Final = {"tick_gateway_ticks_published", "tick_gateway_ticks_dropped", "tick_gateway_flushes"}


class _Collector(Collector):
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        bus, fanout = self._hub.bus, self._hub.fanout
        values = {
            "tick_gateway_ticks_published": bus.published,
            "tick_gateway_ticks_dropped": bus.dropped,
            "tick_gateway_ring_ticks": bus.ring.count,
            "tick_gateway_ring_bytes": bus.ring.size,
            "tick_gateway_connections": len(fanout.sessions),
            "tick_gateway_connections_live": sum(session.live for session in fanout.sessions),
            "tick_gateway_flushes": fanout.flushes,
            "tick_gateway_longest_round_seconds": fanout.longest_round,
        }
        for name, text in METRICS.items():
            family = CounterMetricFamily if name in _COUNTERS else GaugeMetricFamily
            yield family(name, text, value=values[name])


def render(hub: Hub) -> bytes:
    """The exposition in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(hub))
    return bytes(generate_latest(registry))

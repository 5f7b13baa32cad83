"""Prometheus metrics, read from the runtime when they are asked for: nothing is counted twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..runtime import Runtime

METRICS: Final = {
    "tick_gateway_ticks_published": "ticks taken in",
    "tick_gateway_ticks_dropped": "ticks lost to a full inbox",
    "tick_gateway_lines_passed_over": "lines of the files that are followed that were no ticks",
    "tick_gateway_unread_bytes": "bytes of the files that are followed that cannot be read",
    "tick_gateway_unread_files": "files that are followed of which something cannot be read",
    "tick_gateway_ring_ticks": "ticks in memory",
    "tick_gateway_ring_bytes": "bytes they take",
    "tick_gateway_connections": "streaming connections open",
    "tick_gateway_connections_live": "those of them that stand at the tip",
    "tick_gateway_connections_dropped": "streams cut since their peer took nothing, or answered no ping, for long",
    "tick_gateway_connections_refused": "streams refused since there was no room: connections, descriptors, views",
    "tick_gateway_descriptors_limit": "file descriptors that the process may have",
    "tick_gateway_flushes": "flush rounds",
    "tick_gateway_views": "different views that streams have, whole ticks not counted",
    "tick_gateway_projections": "ticks parsed and written again for a view",
    "tick_gateway_encodings": "ticks framed or compressed for streams: once for all readers of a kind",
    "tick_gateway_answers_made": "bodies of pulls made: once for all who get the same one",
    "tick_gateway_answers_compressed": "bodies of pulls compressed",
    "tick_gateway_longest_round_seconds": "the longest flush round since the start",
    "tick_gateway_history_bytes": "bytes of all files of history",
    "tick_gateway_history_unstored": "ticks that readers were given and history has not",
    "tick_gateway_history_ok": "1 while the disk keeps up, 0 while it lags or fails",
    "tick_gateway_history_damaged": "blocks that were found to be damaged or gone",
    "tick_gateway_history_loads": "blocks read from disk",
    "tick_gateway_history_cached_bytes": "bytes of decoded blocks in the cache",
}
_COUNTERS: Final = {
    "tick_gateway_ticks_published",
    "tick_gateway_ticks_dropped",
    "tick_gateway_lines_passed_over",
    "tick_gateway_connections_dropped",
    "tick_gateway_connections_refused",
    "tick_gateway_flushes",
    "tick_gateway_projections",
    "tick_gateway_encodings",
    "tick_gateway_answers_made",
    "tick_gateway_answers_compressed",
    "tick_gateway_history_unstored",
    "tick_gateway_history_damaged",
    "tick_gateway_history_loads",
}


class _Collector(Collector):
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        bus, fanout, archive = self._runtime.bus, self._runtime.fanout, self._runtime.feed.archive
        history, source = self._runtime.history.status(), self._runtime.source
        unread = source.unread if source is not None else None
        values = {
            "tick_gateway_ticks_published": bus.published,
            "tick_gateway_ticks_dropped": bus.dropped,
            "tick_gateway_lines_passed_over": source.skipped if source is not None else 0,
            "tick_gateway_unread_bytes": unread.bytes if unread is not None else 0,
            "tick_gateway_unread_files": unread.files if unread is not None else 0,
            "tick_gateway_ring_ticks": bus.ring.count,
            "tick_gateway_ring_bytes": bus.ring.size,
            "tick_gateway_connections": len(fanout.registry.sessions),
            "tick_gateway_connections_live": sum(session.live for session in fanout.registry.sessions),
            "tick_gateway_connections_dropped": fanout.registry.dropped,
            "tick_gateway_connections_refused": fanout.registry.refused,
            "tick_gateway_descriptors_limit": self._runtime.descriptors.limit,
            "tick_gateway_flushes": fanout.flushes,
            "tick_gateway_views": fanout.registry.views,
            "tick_gateway_projections": fanout.encoder.projections,
            "tick_gateway_encodings": fanout.encoder.encodings,
            "tick_gateway_answers_made": self._runtime.response_cache.made,
            "tick_gateway_answers_compressed": self._runtime.response_cache.compressed,
            "tick_gateway_longest_round_seconds": fanout.longest_round,
            "tick_gateway_history_bytes": history.bytes,
            "tick_gateway_history_unstored": history.unstored,
            "tick_gateway_history_ok": int(history.writing),
            "tick_gateway_history_damaged": archive.damaged,
            "tick_gateway_history_loads": archive.loaded,
            "tick_gateway_history_cached_bytes": archive.cached_bytes,
        }
        for name, text in METRICS.items():
            family = CounterMetricFamily if name in _COUNTERS else GaugeMetricFamily
            yield family(name, text, value=values[name])


def render(runtime: Runtime) -> bytes:
    """The exposition in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(runtime))
    return bytes(generate_latest(registry))

"""Prometheus metrics: one table, read from the runtime on request, so that nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..history.external.source_file import Unread
from ..runtime import Runtime

Family = type[CounterMetricFamily] | type[GaugeMetricFamily]


class MetricRow(NamedTuple):
    """A metric: its name after ``tick_gateway_``, its help text, its type, and how to read its value."""

    name: str
    help: str
    family: Family
    value: Callable[[Runtime], float]


def _counter(name: str, help: str, value: Callable[[Runtime], float]) -> MetricRow:
    return MetricRow(name, help, CounterMetricFamily, value)


def _gauge(name: str, help: str, value: Callable[[Runtime], float]) -> MetricRow:
    return MetricRow(name, help, GaugeMetricFamily, value)


def _live(runtime: Runtime) -> int:
    return sum(session.state.live for session in runtime.fanout.registry.sessions)


def _skipped(runtime: Runtime) -> int:
    return runtime.source.skipped if runtime.source is not None else 0


def _unread(runtime: Runtime) -> Unread:
    unread = runtime.source.unread if runtime.source is not None else None
    return unread if unread is not None else Unread()


TABLE: Final = (
    _counter("ticks_published", "ticks taken in", lambda r: r.bus.published),
    _counter("ticks_dropped", "ticks lost to a full inbox", lambda r: r.bus.dropped),
    _counter("lines_passed_over", "skipped lines of tailed files: they were no ticks", _skipped),
    _gauge("unread_bytes", "bytes of tailed files that cannot be read", lambda r: _unread(r).bytes),
    _gauge("unread_files", "tailed files of which something cannot be read", lambda r: _unread(r).files),
    _gauge("ring_ticks", "ticks in memory", lambda r: r.bus.ring.count),
    _gauge("ring_bytes", "bytes they take", lambda r: r.bus.ring.size),
    _gauge("connections", "streaming connections open", lambda r: len(r.fanout.registry.sessions)),
    _gauge("connections_live", "those of them that stand at the tip", _live),
    _counter(
        "connections_dropped",
        "streams cut since their peer took nothing, or answered no ping, for long",
        lambda r: r.fanout.registry.dropped,
    ),
    _counter(
        "connections_refused",
        "streams refused since there was no room: connections, descriptors, views",
        lambda r: r.fanout.registry.refused,
    ),
    _gauge("descriptors_limit", "file descriptors that the process may have", lambda r: r.descriptors.limit),
    _counter("flushes", "flush rounds", lambda r: r.fanout.flushes),
    _gauge("views", "different views that streams have, whole ticks not counted", lambda r: r.fanout.registry.views),
    _counter("projections", "ticks parsed and written again for a view", lambda r: r.fanout.encoder.projections),
    _counter(
        "encodings",
        "ticks framed or compressed for streams: once for all readers of a kind",
        lambda r: r.fanout.encoder.encodings,
    ),
    _counter(
        "answers_made", "bodies of pulls made: once for all who get the same one", lambda r: r.response_cache.made
    ),
    _counter("answers_compressed", "bodies of pulls compressed", lambda r: r.response_cache.compressed),
    _gauge("longest_round_seconds", "the longest flush round since the start", lambda r: r.fanout.longest_round),
    _gauge("history_bytes", "bytes of all files of history", lambda r: r.history.status().bytes),
    _counter(
        "history_unstored", "ticks that readers were given and history has not", lambda r: r.history.status().unstored
    ),
    _gauge("history_ok", "1 while the disk keeps up, 0 while it lags or fails", lambda r: r.history.status().writing),
    _counter("history_damaged", "blocks that were found to be damaged or gone", lambda r: r.feed.archive.damaged),
    _counter("history_loads", "blocks read from disk", lambda r: r.feed.archive.loaded),
    _gauge("history_cached_bytes", "bytes of decoded blocks in the cache", lambda r: r.feed.archive.cached_bytes),
)
"""In the order of ``/metrics``. A new metric is a row here, and one in docs/reference/metrics.md."""


class _Collector(Collector):
    def __init__(self, runtime: Runtime, table: tuple[MetricRow, ...]) -> None:
        self._runtime = runtime
        self._table = table

    def collect(self) -> Iterator[Metric]:
        for row in self._table:
            yield row.family(f"tick_gateway_{row.name}", row.help, value=row.value(self._runtime))


def render(runtime: Runtime, table: tuple[MetricRow, ...] = TABLE) -> bytes:
    """The metrics in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(runtime, table))
    return bytes(generate_latest(registry))

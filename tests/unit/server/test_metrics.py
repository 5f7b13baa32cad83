"""The table of metrics: each row is served, and a new one is all that a new metric needs."""

from __future__ import annotations

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from tick_gateway import Gateway
from tick_gateway.runtime import Runtime
from tick_gateway.server.metrics import TABLE, MetricRow, render


def families(runtime: Runtime, *more: MetricRow) -> dict[str, Metric]:
    text = render(runtime, (*TABLE, *more)).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_each_row_is_served_as_what_it_is() -> None:
    found = families(Gateway().runtime)
    assert list(found) == [f"tick_gateway_{row.name}" for row in TABLE], "once each, in order"
    for row in TABLE:
        family = found[f"tick_gateway_{row.name}"]
        assert family.documentation == row.help
        assert family.type == ("counter" if row.family is CounterMetricFamily else "gauge")


def test_they_are_read_when_they_are_asked_for() -> None:
    gateway = Gateway()
    for count in range(3):
        found = families(gateway.runtime)
        assert found["tick_gateway_ticks_published"].samples[0].value == count
        assert found["tick_gateway_ring_ticks"].samples[0].value == count
        gateway.runtime.bus.open()
        gateway.runtime.bus.publish({"t": count})
        gateway.runtime.bus.collect()


def test_without_history_its_metrics_are_nothing() -> None:
    found = families(Gateway().runtime)
    for name in ("bytes", "unstored", "ok", "damaged", "loads", "cached_bytes"):
        assert found[f"tick_gateway_history_{name}"].samples[0].value == 0.0


def test_a_new_row_is_all_that_a_new_metric_needs() -> None:
    row = MetricRow("answer", "of everything", GaugeMetricFamily, lambda runtime: 42)
    family = families(Gateway().runtime, row)["tick_gateway_answer"]
    assert (family.documentation, family.samples[0].value) == ("of everything", 42.0)

"""The conclusions, in sentences, from outcomes made by hand."""

import re

import pytest

from tests.support.bench_outcomes import outcome, scenario, three
from tick_gateway.bench.cases import LOOPBACK, Case
from tick_gateway.bench.scenario import Outcome
from tick_gateway.bench.verdict import verdict
from tick_gateway.transports import TRANSPORTS


def text(outcomes: list[Outcome], **changes: object) -> str:
    return "\n".join(verdict(scenario(**changes), outcomes))


def test_what_is_alike_is_called_so() -> None:
    told = text(three())
    assert "Every checked connection had every tick once, in order." in told
    assert "The soonest, at the 99th percentile: WebSocket and SSE (1.00 ms); the latest: long-poll (30.0" in told
    assert "the best pull takes 30 times as long to arrive (99th percentile) and 4.0 times the CPU" in told
    assert "The streams do not differ by a quarter in anything" in told
    assert "The quickest to catch up: all alike, 100 to 100 ms." in told


@pytest.mark.parametrize("name", [*(transport.name for transport in TRANSPORTS), "one-that-is-new"])
def test_each_transport_has_its_sentence(name: str) -> None:
    told = text([outcome(name, 2), outcome("sse", 1) if name != "sse" else outcome("ndjson", 1)])
    assert re.search(r"^Pick \S+ where .+\. Here: 2\.00 ms at the median.*2\.0 times the latency", told, re.MULTILINE)


def test_losses_are_not_hidden() -> None:
    told = text([outcome("websocket", 1, lost=3, repeated=2), outcome("sse", 1, behind=5000)])
    assert "Ticks lost: 3; ticks that came twice: 2." in told
    assert "SSE did not keep up: 5,000 ticks" in told
    assert "every tick once" not in told


def test_a_busy_machine_is_told() -> None:
    assert "Other programs used up to 40% of this machine" in text(
        [outcome("sse", 1, others=0.4), outcome("ndjson", 1)]
    )
    assert "Other programs" not in text([outcome("sse", 1, others=0.01)])


def test_codings_are_held_against_the_plain_transport() -> None:
    coded = outcome("sse", 1, 2e-5, 250, coding="zstd", case=Case("sse", "zstd", LOOPBACK))
    told = text([*three(), coded], encodings=("identity", "zstd"))
    assert "SSE with zstd takes 25% of the bytes for 2.0 times the CPU." in told


def test_networks_are_held_against_loopback() -> None:
    far = outcome("sse", 80, case=Case("sse", "identity", "mobile"))
    assert "On the network mobile, the 99th percentile is: SSE 80.0 ms instead of 1.10." in text(
        [*three(), far], networks=(LOOPBACK, "mobile")
    )


def test_nothing_measured_says_nothing() -> None:
    assert text([Outcome(Case("sse", "identity", "wifi"), not_run="no netem")]) == "Nothing was measured."
    assert text([]) == "Nothing was measured."


def test_figures_that_are_missing_are_left_out() -> None:
    bare = [outcome(name, 1, cpu_seconds=None, memory=None, catch_up=None) for name in ("websocket", "sse")]
    assert "CPU" not in text(bare) and "catch up" not in text(bare)

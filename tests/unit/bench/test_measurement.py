"""Which cases are measured, in which order, and what becomes of those that cannot be. What a case comes to is tested
with the command."""

from __future__ import annotations

import pytest

from tests.support.bench_outcomes import scenario
from tick_gateway.bench.environment import Target
from tick_gateway.bench.measurement import Measurement, measure
from tick_gateway.bench.network import Network, NetworkUnavailable
from tick_gateway.bench.scenario import BenchError, Outcome


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cases that were run; that of ``sse`` has nothing to measure."""
    cases: list[str] = []

    def run(self: Measurement) -> None:
        cases.append(str(self.outcome.case))
        if self.outcome.case.transport == "sse":
            raise BenchError("nothing comes")
        self.outcome.ticks = 5

    monkeypatch.setattr(Measurement, "run", run)
    return cases


def test_every_case_in_order_and_none_stops_the_others(ran: list[str]) -> None:
    shown: list[tuple[str, str]] = []
    outcomes = measure(scenario(), lambda outcome, doing: shown.append((outcome.case.transport, doing)))
    assert ran == [f"{name}, identity, loopback" for name in ("websocket", "sse", "longpoll")]
    assert shown == [("websocket", ""), ("sse", ""), ("longpoll", "")]
    assert [outcome.not_run for outcome in outcomes] == ["", "nothing comes", ""]
    assert [(outcome.clients, outcome.checked) for outcome in outcomes] == [(10, 10)] * 3


def test_a_network_that_cannot_be_had_leaves_out_its_cases_alone(
    ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def enter(self: Network) -> Network:
        raise NetworkUnavailable("no netem")

    monkeypatch.setattr(Network, "__enter__", enter)
    outcomes = measure(scenario(networks=("wifi", "loopback")), lambda outcome, doing: None)
    assert [outcome.not_run for outcome in outcomes[:3]] == ["no netem"] * 3
    assert all(case.endswith("loopback") for case in ran) and len(ran) == 3


def measured(transport: str, encoding: str) -> Outcome:
    asked = scenario(transports=(transport,), encodings=(encoding,))
    outcome = Outcome(asked.cases()[0])
    nowhere = (2, ("127.0.0.1", 1))
    target = Target(nowhere, nowhere, "127.0.0.1:1", "", None)
    Measurement(asked, outcome, None, target, lambda outcome, doing: None).run()
    return outcome


def test_a_coding_that_a_transport_has_no_way_to_ask_for() -> None:
    with pytest.raises(BenchError, match="^websocket has no coding zstd$"):
        measured("websocket", "zstd")


def test_a_gateway_that_is_gone() -> None:
    with pytest.raises(BenchError, match="the publisher lost the gateway: Connection refused"):
        measured("sse", "identity")

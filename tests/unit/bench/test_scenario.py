"""What was asked and what came out, as JSON."""

from tests.support.bench_outcomes import outcome, scenario
from tick_gateway.bench.cases import Case
from tick_gateway.bench.scenario import Outcome


def test_json_has_units_in_its_names() -> None:
    told = outcome("websocket", 1, why={"memory": "fewer"}).as_dict()
    assert told["latency_ms"] == {"p50": 1.0, "p99": 1.0, "max": 1.0}
    assert (told["cpu_us_per_tick"], told["bytes_per_tick"], told["catch_up_ms"]) == (10.0, 1000.0, 100.0)
    assert told["delivered_ticks"] == 1000 and told["not_measured"] == {"memory": "fewer"}
    assert outcome("sse", 1, checked=2, ticks=200).as_dict()["delivered_ticks"] == 1000
    assert "secret" not in str(scenario().as_dict())
    assert Outcome(Case("sse", "gzip", "wifi"), not_run="no").as_dict()["not_run"] == "no"


def test_each_transport_with_each_coding_on_each_network() -> None:
    asked = scenario(transports=("sse", "ndjson"), encodings=("identity", "gzip"), networks=("loopback", "wifi"))
    assert [str(case) for case in asked.cases()][:3] == [
        "sse, identity, loopback",
        "sse, gzip, loopback",
        "ndjson, identity, loopback",
    ]
    assert len(asked.cases()) == 8

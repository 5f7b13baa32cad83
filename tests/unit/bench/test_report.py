"""What people read: sentences, plots, table and report, from outcomes made by hand."""

import io
import re
from xml.etree import ElementTree

import pytest

from tick_gateway.bench.plan import LOOPBACK, Case, Outcome, Plan
from tick_gateway.bench.plot import Bar, Curve, bars, curves
from tick_gateway.bench.report import report
from tick_gateway.bench.sentences import verdict
from tick_gateway.bench.stats import Histogram
from tick_gateway.bench.table import Table, remarks


def plan(**changes: object) -> Plan:
    values: dict[str, object] = {
        "url": "", "pid": None, "token": "secret", "cacert": None, "insecure": False,
        "transports": ("websocket", "sse", "longpoll"),
        "encodings": ("identity",), "networks": (LOOPBACK,), "clients": 10, "checked": 10, "processes": 1,
        "rate": 100.0, "size": 1000, "seconds": 1.0, "fields": "", "every": 1, "batch": 0, "limit": 100, "pause": 0.05,
        "catch_up": 1000, "patience": 5.0,
    }  # fmt: skip
    return Plan(**{**values, **changes})  # type: ignore[arg-type]


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
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def three() -> list[Outcome]:
    return [outcome("websocket", 1), outcome("sse", 1.1), outcome("longpoll", 30, 4e-5, 1500)]


def text(outcomes: list[Outcome], **changes: object) -> str:
    return "\n".join(verdict(plan(**changes), outcomes))


def test_what_is_alike_is_called_so() -> None:
    told = text(three())
    assert "Every checked connection had every tick once, in order." in told
    assert "The soonest, at the 99th percentile: WebSocket and SSE (1.00 ms); the latest: long-poll (30.0" in told
    assert "the best pull takes 30 times as long to arrive (99th percentile) and 4.0 times the CPU" in told
    assert "The streams do not differ by a quarter in anything" in told
    assert "The quickest to catch up: all alike, 100 to 100 ms." in told


@pytest.mark.parametrize("name", ["websocket", "sse", "ndjson", "longpoll", "incremental", "one-that-is-new"])
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


# ---- JSON ----


def test_json_has_units_in_its_names() -> None:
    told = outcome("websocket", 1, why={"memory": "fewer"}).as_dict()
    assert told["latency_ms"] == {"p50": 1.0, "p99": 1.0, "max": 1.0}
    assert (told["cpu_us_per_tick"], told["bytes_per_tick"], told["catch_up_ms"]) == (10.0, 1000.0, 100.0)
    assert told["delivered_ticks"] == 1000 and told["not_measured"] == {"memory": "fewer"}
    assert outcome("sse", 1, checked=2, ticks=200).as_dict()["delivered_ticks"] == 1000
    assert "secret" not in str(plan().as_dict())
    assert Outcome(Case("sse", "gzip", "wifi"), not_run="no").as_dict()["not_run"] == "no"


# ---- plots ----


def drawn(figure: str) -> ElementTree.Element:
    svg = re.search(r"<svg.*</svg>", figure, re.DOTALL)
    assert svg is not None
    return ElementTree.fromstring(svg[0])


def test_bars() -> None:
    svg = drawn(bars("A & B", "ms", [Bar("<one>", 10, 0), Bar("two", 5, 9), Bar("none", None, 2)]))
    widths = [float(bar.attrib["width"]) for bar in svg.iter("rect")]
    assert widths[0] == pytest.approx(2 * widths[1]) and widths[2] == 0
    assert [label.text for label in svg.iter("text")][:2] == ["<one>", "10.0"]
    assert bars("nothing", "ms", [Bar("none", None, 0)]) == ""


def test_curves() -> None:
    svg = drawn(curves("latency", "ms", [Curve("one", [(0.5, 0.5), (3, 1.0)], 0), Curve("two", [(20, 1.0)], 1, True)]))
    assert {"0.1", "1", "10", "100", "one", "two"} <= {label.text for label in svg.iter("text")}
    assert curves("nothing", "ms", [Curve("none", [], 0)]) == ""


# ---- table and report ----


def test_the_table_is_plain_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    table = Table(plan(), out)
    table.show(outcome("sse", 1), "live")
    assert out.getvalue() == ""
    for row in three():
        table.show(row, "")
    table.show(Outcome(Case("sse", "gzip", LOOPBACK), not_run="no such coding"), "")
    table.end()
    head, *rows, last = out.getvalue().splitlines()
    assert head.split()[0] == "transport" and "network" not in head
    assert [row.split()[:3] for row in rows] == [[o.case.transport, "identity", "1,000"] for o in three()]
    assert last.endswith("not run: no such coding") and "\x1b" not in out.getvalue()


def test_the_table_is_redrawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    table = Table(plan(), out)
    table.show(outcome("sse", 1), "live")
    assert all(len(line) < 60 for line in out.getvalue().replace("\x1b[J", "").splitlines())
    table.show(outcome("sse", 1), "")
    table.end()
    assert out.getvalue().count("\x1b[3A") == 1 and out.getvalue().endswith("0\n")


def test_remarks_are_said_once() -> None:
    rows = [outcome("sse", 1, why={"memory": "fewer"}), outcome("websocket", 1, why={"memory": "fewer"}, remark="slow")]
    assert remarks(rows) == ["KiB/conn not measured: fewer", "websocket, identity, loopback: slow"]


def test_the_report_is_one_file_that_needs_no_other() -> None:
    rows = [*three(), Outcome(Case("sse", "identity", "wifi"), not_run="no <netem>")]
    page = report(plan(networks=(LOOPBACK, "wifi")), rows)
    assert not re.search(r"(src|href)=|@import|url\(|https?:", page)
    assert "no &lt;netem&gt;" in page and "Pick WebSocket where" in page and page.count("<svg") >= 6
    assert "secret" not in page
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)

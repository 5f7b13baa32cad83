"""The table of outcomes, in a terminal and elsewhere."""

import io

import pytest

from tests.support.bench_outcomes import outcome, scenario, three
from tick_gateway.bench.cases import LOOPBACK, Case
from tick_gateway.bench.scenario import Outcome
from tick_gateway.bench.table import Table, remarks


def test_the_table_is_plain_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    table = Table(scenario(), out)
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
    table = Table(scenario(), out)
    table.show(outcome("sse", 1), "live")
    assert all(len(line) < 60 for line in out.getvalue().replace("\x1b[J", "").splitlines())
    table.show(outcome("sse", 1), "")
    table.end()
    assert out.getvalue().count("\x1b[3A") == 1 and out.getvalue().endswith("0\n")


def test_remarks_are_said_once() -> None:
    rows = [outcome("sse", 1, why={"memory": "fewer"}), outcome("websocket", 1, why={"memory": "fewer"}, remark="slow")]
    assert remarks(rows) == ["KiB/conn not measured: fewer", "websocket, identity, loopback: slow"]

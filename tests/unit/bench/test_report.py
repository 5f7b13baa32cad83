"""The report, from outcomes made by hand."""

import re
from xml.etree import ElementTree

from tests.support.bench_outcomes import scenario, three
from tick_gateway.bench.cases import LOOPBACK, Case
from tick_gateway.bench.report import report
from tick_gateway.bench.scenario import Outcome


def test_the_report_is_one_file_that_needs_no_other() -> None:
    rows = [*three(), Outcome(Case("sse", "identity", "wifi"), not_run="no <netem>")]
    page = report(scenario(networks=(LOOPBACK, "wifi")), rows)
    assert not re.search(r"(src|href)=|@import|url\(|https?:", page)
    assert "no &lt;netem&gt;" in page and "Pick WebSocket where" in page and page.count("<svg") >= 6
    assert "secret" not in page
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)

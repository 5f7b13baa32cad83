"""The plots, as SVG."""

import re
from xml.etree import ElementTree

import pytest

from tick_gateway.bench.plot import Bar, Curve, bars, curves


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

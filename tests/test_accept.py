"""Content negotiation: the codings that a request gets (RFC 9110, section 12.5.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.accept import choose, qualities, takes
from tick_gateway.errors import NotAcceptable


@pytest.mark.parametrize(
    ("header", "live", "stored"),
    [
        ("", "", ""),
        ("identity", "", ""),
        ("br, deflate", "", ""),
        ("gzip", "gzip", "gzip"),
        ("x-gzip", "", ""),
        ("ZSTD", "zstd", "zstd"),
        ("gzip, deflate, br, zstd", "gzip", "zstd"),
        ("gzip;q=1.0, zstd;q=0.9", "gzip", "gzip"),
        ("gzip;q=0.5, zstd;q=0.9", "zstd", "zstd"),
        ("zstd;q=0, gzip;q=0.1", "gzip", "gzip"),
        ("zstd;q=0", "", ""),
        ("*", "gzip", "zstd"),
        ("*;q=0.5, gzip;q=0.4", "zstd", "zstd"),
        ("*, zstd;q=0", "gzip", "gzip"),
        ("identity, zstd;q=0.5", "", ""),
        ("identity;q=0.4, zstd;q=0.5", "zstd", "zstd"),
        ("identity;q=0, zstd;q=0.001", "zstd", "zstd"),
        ("zstd;q=nonsense", "", ""),
        (" , zstd ; q=0.3 ,", "zstd", "zstd"),
        ("*;q=0, identity;q=0.1", "", ""),
    ],
)
def test_what_a_header_asks_for(header: str, live: str, stored: str) -> None:
    assert choose(header, "gzip", "zstd") == live
    assert choose(header, "zstd", "gzip") == stored


@pytest.mark.parametrize("header", ["identity;q=0", "*;q=0", "br, identity;q=0", "gzip;q=0, zstd;q=0, identity;q=0.0"])
def test_nothing_is_left(header: str) -> None:
    with pytest.raises(NotAcceptable, match="there are: gzip, zstd, identity"):
        choose(header, "gzip", "zstd")


def test_nothing_is_left_where_nothing_is_compressed() -> None:
    with pytest.raises(NotAcceptable, match="there are: identity$"):
        choose("gzip, identity;q=0")


@given(st.text(max_size=60))
def test_no_header_is_too_strange(header: str) -> None:
    assert all(0 <= quality <= 1 for quality in qualities(header).values())
    takes(header, "zstd")
    try:
        assert choose(header, "gzip", "zstd") in ("gzip", "zstd", "")
    except NotAcceptable:
        assert "q" in header.lower()

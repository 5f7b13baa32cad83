"""Content negotiation: the codings that a request gets (RFC 9110, section 12.5.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.errors import NotAcceptable
from tick_gateway.http.negotiation import accepts, choose, qualities, reads_first_frame_only


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
    assert choose(header, ["gzip", "zstd"]) == live
    assert choose(header, ["zstd", "gzip"]) == stored


@pytest.mark.parametrize("header", ["identity;q=0", "*;q=0", "br, identity;q=0", "gzip;q=0, zstd;q=0, identity;q=0.0"])
def test_nothing_is_left(header: str) -> None:
    with pytest.raises(NotAcceptable, match="there are: gzip, zstd, identity"):
        choose(header, ["gzip", "zstd"])


def test_nothing_is_left_where_nothing_is_compressed() -> None:
    with pytest.raises(NotAcceptable, match="there are: identity$"):
        choose("gzip, identity;q=0", [])


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        ("got (https://github.com/sindresorhus/got)", True),
        ("node", True),
        ("undici", True),
        ("Bun/1.4.5", False),
        ("Deno/2.9.6", False),
        ("curl/8.5.0", False),
        ("python-httpx/0.28.1", False),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
            False,
        ),
        ("nodepad", False),
        ("", False),
    ],
)
def test_clients_that_read_one_zstd_frame(user_agent: str, expected: bool) -> None:
    assert reads_first_frame_only(user_agent) is expected


@given(st.text(max_size=60))
def test_no_header_is_too_strange(header: str) -> None:
    assert all(0 <= quality <= 1 for quality in qualities(header).values())
    accepts(header, "zstd")
    try:
        assert choose(header, ["gzip", "zstd"]) in ("gzip", "zstd", "")
    except NotAcceptable:
        assert "q" in header.lower()

"""The tables of cases, held against the registry of transports, the decoders and the docs."""

import re

import pytest

from tests.support.markdown import DOCS
from tick_gateway.bench.cases import ENCODINGS, NETWORKS, PROFILES, TRANSPORT_ROWS, row_of
from tick_gateway.bench.decoders import content_decoder
from tick_gateway.transports import TRANSPORTS

PAGE = (DOCS / "how-to" / "bench.md").read_text("utf-8")


def test_every_transport_has_a_row_and_no_other() -> None:
    assert list(TRANSPORT_ROWS) == [transport.name for transport in TRANSPORTS]


@pytest.mark.parametrize("kind", ["stream", "pull"])
def test_a_transport_without_a_row_is_told_by_its_kind(kind: str) -> None:
    row = row_of("one-that-is-new", kind)
    assert row.label == "one-that-is-new" and row.purpose and not row.websocket


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_coding_can_be_decoded_and_is_told(encoding: str) -> None:
    assert content_decoder(encoding).feed(b"") == b""
    assert encoding == "identity" or encoding in PAGE


@pytest.mark.parametrize("name", PROFILES)
def test_every_network_is_told(name: str) -> None:
    assert name in NETWORKS
    assert re.search(rf"^\| `{name}` \|", PAGE, re.MULTILINE)

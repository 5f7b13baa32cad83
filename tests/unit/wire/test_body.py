"""What the streamed HTTP bodies share: chunks or none, a content coding or none, and bodies that end whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.bench.decoders import ChunkedDecoder, content_decoder
from tick_gateway.model.notices import End, Gap, Hello, Notice, Reset
from tick_gateway.model.tick import Position
from tick_gateway.model.view import Payload
from tick_gateway.wire.body import BodyFraming
from tick_gateway.wire.checksum import NOTHING
from tick_gateway.wire.codings import CODINGS
from tick_gateway.wire.framing import LAST_CHUNK, joined, notice_json

END = End("limit", Position("r", 9))
NAMES = [None, *CODINGS]


@dataclass(frozen=True)
class Bars(BodyFraming):
    """As simple as a framing can be."""

    head = b"head|"
    sign_of_life = b"|"

    def content(self, run: str, payloads: Sequence[Payload]) -> bytes:
        return b"".join([payload.data + b"|" for payload in payloads])

    def content_of(self, notice: Notice) -> bytes:
        return notice_json(notice) + b"|"


def framing(name: str | None, *, chunked: bool) -> Bars:
    return Bars(chunked, CODINGS.make(name, 3) if name else None)


def decode(data: bytes, name: str | None, *, chunked: bool) -> bytes:
    """The content of a body, which has to be whole."""
    if chunked:
        assert data.endswith(LAST_CHUNK)
        data = b"".join(ChunkedDecoder(strict=True).feed(data))
    if name is None:
        return data
    decoder = content_decoder(name, strict=True)
    content = decoder.feed(data)
    assert decoder.whole
    return content


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("name", NAMES)
@given(texts=st.lists(st.lists(st.binary(max_size=30), max_size=3), max_size=6), beats=st.booleans())
def test_a_body_says_what_its_pieces_say(
    name: str | None, chunked: bool, texts: list[list[bytes]], beats: bool
) -> None:
    one = framing(name, chunked=chunked)
    pieces, said = [one.opening], b"head|"
    for t, datas in enumerate(texts):
        pieces.append(one.messages("r", [Payload(t, data) for data in datas]))
        said += b"".join(data + b"|" for data in datas)
        if beats:
            pieces.append(one.heartbeat)
            said += b"|"
    whole = joined([*pieces, one.notice(END)])
    data = whole.data + one.closing(END, whole.content)
    assert decode(data, name, chunked=chunked) == said + notice_json(END) + b"|"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_no_payloads_are_no_bytes(name: str | None, chunked: bool) -> None:
    """An empty chunk would end the body."""
    one = framing(name, chunked=chunked)
    assert one.messages("r", []).data == b""
    shared = one.shared()
    assert shared is None or shared.messages("r", []) == b""


@pytest.mark.parametrize("notice", [Gap("r", 1, 3), Reset("s", "r", True), Hello("r", 0, 3), END])
def test_an_end_ends_it_and_nothing_else(notice: Notice) -> None:
    assert framing(None, chunked=True).ends(notice) == isinstance(notice, End)


def test_without_a_coding_nothing_is_shared_that_is_not_the_same_for_all() -> None:
    assert framing(None, chunked=True).shared() is None


@pytest.mark.parametrize("name", list(CODINGS))
def test_a_reader_joins_the_shared_stream_at_a_cut(name: str) -> None:
    """It is given the opening, then standalone bytes, then what is shared from the cut on; before anything else it
    is given the rest of the section."""
    one = framing(name, chunked=False)
    shared = one.shared()
    assert shared is not None and shared.beats_inside
    shared.messages("r", [Payload(1, b"before")])
    shared.cut()
    opening, alone, before = one.opening, one.messages("r", [Payload(2, b"alone")]), shared.content
    data = opening.data + alone.data + shared.messages("r", [Payload(3, b"shared")]) + shared.notice(END)
    content = opening.content + alone.content + shared.content.after(before)
    data += shared.rest + one.closing(END, content)
    assert decode(data, name, chunked=False) == b"head|alone|shared|" + notice_json(END) + b"|"


def test_framings_with_other_codings_are_others() -> None:
    """Equal ones share their bytes."""
    assert len({framing(name, chunked=chunked) for name in NAMES for chunked in (True, False)}) == 2 * len(NAMES)
    assert framing("gzip", chunked=True) == framing("gzip", chunked=True)
    assert framing(None, chunked=False).closing(END, NOTHING) == b""

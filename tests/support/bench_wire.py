"""Bytes as a server writes them, made with the libraries alone or with the gateway's framing, and cut anywhere."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import pairwise

from hypothesis import strategies as st

from tick_gateway.wire.websocket import frame

CUTS = st.lists(st.integers(0, 5000), max_size=12)


def cut(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The data in pieces."""
    places = sorted({0, len(data), *(at for at in cuts if at < len(data))})
    for begin, end in pairwise(places):
        yield data[begin:end]


def deflated(messages: list[bytes], takeover: bool) -> bytes:
    """Frames as permessage-deflate has them (RFC 7692, section 7.2.1)."""
    coder, out = zlib.compressobj(wbits=-15), []
    for message in messages:
        data = coder.compress(message) + coder.flush(zlib.Z_SYNC_FLUSH)
        framed = frame(1, data.removesuffix(b"\x00\x00\xff\xff"))
        out.append(bytes([framed[0] | 0x40]) + framed[1:])
        if not takeover:
            coder = zlib.compressobj(wbits=-15)
    return b"".join(out)

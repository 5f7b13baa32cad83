"""Checksums that are put together from those of pieces, and taken apart."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.wire.checksum import NOTHING, Checksum
from tick_gateway.wire.compression import GzipCoding


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
def test_checksums_are_put_together_and_taken_apart(a: bytes, b: bytes, c: bytes) -> None:
    whole = Checksum.of(a + b + c)
    assert (whole.crc, whole.size) == (zlib.crc32(a + b + c), len(a + b + c))
    assert Checksum.of(a) + Checksum.of(b) + Checksum.of(c) == whole
    assert Checksum.of(a) + (Checksum.of(b) + Checksum.of(c)) == whole
    assert whole.after(Checksum.of(a)) == Checksum.of(b + c)
    assert Checksum.of(a).followed_by(b + c) == whole
    assert NOTHING + whole == whole + NOTHING == whole.after(NOTHING) == whole
    assert whole.after(whole) == NOTHING


def test_checksums_of_long_streams() -> None:
    """Beyond the 4 GiB after which a gzip member's length begins anew."""
    block = b"\0" * (1 << 20)
    crc = 0
    for _ in range(64):
        crc = zlib.crc32(block, crc)
    part = Checksum(crc, 64 << 20)
    whole = NOTHING
    for _ in range(80):
        whole += part
    assert whole.size == 5 << 30
    assert whole.after(part) + part == part + whole.after(part) == whole
    assert GzipCoding().closing(whole)[-4:] == (1 << 30).to_bytes(4, "little")

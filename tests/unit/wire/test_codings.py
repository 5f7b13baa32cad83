"""The registry of content codings: what is taken from publishers, and what follows from a row."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from tick_gateway.bench.decoders import content_decoder
from tick_gateway.errors import BadEncoding, NotAcceptable
from tick_gateway.http.negotiation import choose
from tick_gateway.wire.codings import CODINGS, TABLE, CodingRow, Codings
from tick_gateway.wire.compression import GzipCoding
from tick_gateway.wire.decoding import GzipDecoder, IdentityDecoder, ZstdDecoder


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ([], IdentityDecoder),
        ([""], IdentityDecoder),
        (["identity"], IdentityDecoder),
        ([" Identity , identity"], IdentityDecoder),
        (["gzip"], GzipDecoder),
        (["GZip"], GzipDecoder),
        (["x-gzip"], GzipDecoder),
        (["gzip, identity"], GzipDecoder),
        ([",identity,, X-GZIP ,"], GzipDecoder),
        (["identity", "gzip"], GzipDecoder),
        (["ZSTD"], ZstdDecoder),
    ],
)
def test_the_header(fields: list[str], kind: type) -> None:
    assert type(CODINGS.decoder_of(fields)) is kind


@pytest.mark.parametrize(
    "fields", [["deflate"], ["br"], ["compress"], ["gzip, gzip"], ["gzip", "zstd"], ["gzip;q=1"], ["\u00e9" * 500]]
)
def test_codings_that_are_not_taken(fields: list[str]) -> None:
    with pytest.raises(BadEncoding) as caught:
        CODINGS.decoder_of(fields)
    assert (caught.value.status, caught.value.code) == (415, "bad_encoding")
    assert "gzip or zstd" in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_row_fits_together(row: CodingRow) -> None:
    """What its coding compresses its decoder undoes, and so does the one that the tests have of their own."""
    coding = CODINGS.make(row.name, 3)
    assert coding.name == row.name
    text = b'{"t":1}\n' * 1000
    decoder = CODINGS.decoder_of([row.name])
    assert b"".join(decoder.feed(coding.whole(text))) == text
    decoder.end()
    independent = content_decoder(row.name, strict=True)
    assert independent.feed(coding.whole(text)) == text and independent.whole


def test_which_of_several_is_preferred() -> None:
    assert CODINGS.for_streams(one_frame=False) == ["gzip", "zstd"]
    assert CODINGS.for_streams(one_frame=True) == ["gzip"], "of zstd they would read one frame"
    assert CODINGS.for_pulls() == ["zstd", "gzip"]


class Deflate(GzipCoding):
    name = "deflate"

    def whole(self, data: bytes) -> bytes:
        return zlib.compress(data, self.level)


class Inflater:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield self._stream.decompress(data)

    def end(self) -> None:
        assert self._stream.eof


def test_a_new_row_is_all_that_a_new_coding_needs() -> None:
    row = CodingRow("deflate", Deflate, Inflater, stream_rank=0, pull_rank=3, aliases=("x-deflate",))
    codings = Codings([*TABLE, row])
    assert codings.for_streams(one_frame=True) == ["deflate", "gzip"] and codings.for_pulls()[-1] == "deflate"
    assert choose("gzip, deflate", codings.for_streams(one_frame=False)) == "deflate"
    assert b"".join(codings.decoder_of(["X-Deflate"]).feed(codings.make("deflate", 6).whole(b"x"))) == b"x"
    assert codings.accepted == "gzip, zstd, deflate"
    with pytest.raises(BadEncoding, match="accepted: gzip or zstd or deflate, once"):
        codings.decoder_of(["br"])
    with pytest.raises(NotAcceptable, match="there are: zstd, gzip, deflate, identity"):
        choose("identity;q=0", codings.for_pulls())

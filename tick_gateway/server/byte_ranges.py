"""Range requests (RFC 9110, section 14): a client may ask for a part of a body of known length.

The route passes in a function that writes the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from aiohttp import web

from .ranges import Vanished

IMMUTABLE: Final = "public, max-age=31536000, immutable"
"""``Cache-Control`` of what never changes, as most of what can be asked for in parts."""

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


class ByteRange(NamedTuple):
    """The bytes ``begin`` to ``end`` (not included) of a body."""

    begin: int
    end: int


def requested(request: web.Request, size: int, tag: str) -> ByteRange | None:
    """The bytes that a request asks for; None: all of them. A range that begins beyond the end is empty.

    A header that is malformed, has several ranges, or comes with an ``If-Range`` other than the entity tag is ignored.

    Args:
        size: of the whole body.
        tag: the answer's ``ETag``.
    """
    condition = request.headers.get("If-Range")
    found = _RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if request.method != "GET" or found is None or not (found[1] or found[2]) or condition not in (None, tag):
        return None
    if not found[1]:
        return ByteRange(max(size - int(found[2]), 0), size)
    first, end = int(found[1]), int(found[2]) + 1 if found[2] else size
    if found[2] and end <= first:
        return None
    return ByteRange(first, max(first, min(end, size)))


def begin_answer(request: web.Request, size: int, headers: Mapping[str, str]) -> tuple[web.StreamResponse, ByteRange]:
    """The head of an answer, and the bytes to send: 200 with all, 206 with some, or 416 with none.

    Args:
        headers: of the answer, including an ``ETag``.
    """
    part = requested(request, size, headers["ETag"])
    if part is not None and part.begin >= size:
        unmet = {"Content-Range": f"bytes */{size}", "Cache-Control": "no-store"}
        return web.Response(status=416, headers=unmet), ByteRange(0, 0)
    response = web.StreamResponse(status=200 if part is None else 206, headers=headers)
    response.headers["Accept-Ranges"] = "bytes"
    if part is not None:
        response.headers["Content-Range"] = f"bytes {part.begin}-{part.end - 1}/{size}"
    part = part or ByteRange(0, size)
    response.content_length = part.end - part.begin
    return response, part


async def answer_part(
    request: web.Request,
    size: int,
    headers: Mapping[str, str],
    write: Callable[[web.StreamResponse, ByteRange], Awaitable[None]],
) -> web.StreamResponse:
    """Answer with a body of known length, or with the requested part of it (see ``begin_answer``).

    Args:
        write: writes these bytes; if it raises Vanished, the connection is cut.
    """
    response, part = begin_answer(request, size, headers)
    if response.status == 416:
        return response
    return await answer(request, response, lambda: write(response, part))


async def answer(
    request: web.Request, response: web.StreamResponse, write: Callable[[], Awaitable[None]]
) -> web.StreamResponse:
    """Send an answer's head and, unless the request is HEAD, the body that ``write`` writes.

    If that raises Vanished, the connection is cut: a proper end would make a partial body look complete.
    """
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        await write()
    except Vanished:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError from None
    await response.write_eof()
    return response

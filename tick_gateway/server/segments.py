"""``/segments``: the sealed files of history, as they lie on disk, so that a mirror or a CDN can hold all of it.

A sealed file never changes. The one that is still written to is not among them; what is in it comes by ``/range``, or
live. All of a file is held against what was written before any of it goes out, and what goes out is the file that was
looked at, whatever takes its place meanwhile.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import IO, Final

from aiohttp import web

from ..errors import Damaged, NotFound
from ..history.sealed import open_sealed
from ..history.shelf import Shelf
from ..history.volume import Segment, stamp_of
from ..hub import Hub
from ..reply import json_reply
from ..transports.base import check_run, query_of

_CHUNK_BYTES: Final = 256 * 1024


@dataclass(slots=True)
class Sealed:
    """A sealed file: its run, and what lies in it."""

    run: str
    segment: Segment
    first: int
    last: int
    count: int

    def as_dict(self) -> dict[str, object]:
        name = self.segment.name
        return {
            "run": self.run, "name": name, "path": f"segments/{self.run}/{name}", "first": self.first,
            "last": self.last, "count": self.count, "bytes": self.segment.size,
        }  # fmt: skip


def sealed(shelf: Shelf, *, newest: bool) -> list[Sealed]:
    """A run's sealed files, oldest first; of the ``newest`` run, and of one whose end is not written yet, the last file
    is still written to."""
    found: list[Sealed] = []
    for file in shelf.entries.files:
        if isinstance(file.volume, Segment):
            found.append(Sealed(shelf.run.id, file.volume, file.first, file.last, file.ticks))
    last = found[-1].segment if found else None
    open_ = last is not None and not last.sealed and (newest or not shelf.run.restored)
    return found[:-1] if open_ else found


def _all(hub: Hub, run: str | None) -> list[Sealed]:
    newest = hub.bus.ring.newest
    shelves = [shelf for shelf in hub.feed.archive.shelves.values() if run in (None, shelf.run.id)]
    return [one for shelf in shelves for one in sealed(shelf, newest=shelf.run is newest)]


async def segments(request: web.Request, hub: Hub) -> web.StreamResponse:
    """``GET /segments``: what there is; with ``run``, of that run alone."""
    query = query_of(request)
    check_run(hub, query)
    listed = [one.as_dict() for one in _all(hub, query.run)]
    return json_reply({"segments": listed}, headers={"Cache-Control": "no-store"})


async def segment(request: web.Request, hub: Hub) -> web.StreamResponse:
    """``GET /segments/{run}/{name}``: one of them, or a range of its bytes (RFC 9110, section 14)."""
    query_of(request)
    run, name = request.match_info["run"], request.match_info["name"]
    for one in _all(hub, run):
        if one.segment.name == name:
            break
    else:
        raise NotFound(f"no sealed file {name:.80} of run {run:.80}; see /segments")
    file, crc = await _open(hub, one)
    try:
        return await _send(request, file, one.segment.size, f"{one.segment.size:x}-{crc:08x}")
    finally:
        file.close()


async def _open(hub: Hub, one: Sealed) -> tuple[IO[bytes], int]:
    """The file, all of it checked, and its CRC."""
    archive, segment = hub.feed.archive, one.segment
    shelf = archive.shelves.get(one.run)
    blocks = shelf.entries.of(segment) if shelf is not None else []
    try:
        return await asyncio.to_thread(open_sealed, segment, one.run, blocks)
    except (Damaged, OSError) as error:
        if segment.retired:
            raise NotFound(f"{segment.name} of run {one.run} was just deleted; see /segments") from None
        problem = str(error.strerror if isinstance(error, OSError) else error)
        archive.tell(f"{one.run}/{segment.name} cannot be given out: {problem}")
        raise Damaged(
            f"{segment.name} of run {one.run} is not what was written, and is not given out: {problem}"
        ) from None


async def _send(request: web.Request, file: IO[bytes], size: int, tag: str) -> web.StreamResponse:
    headers = {
        "Content-Type": "application/zstd", "Cache-Control": "public, max-age=31536000, immutable",
        "Accept-Ranges": "bytes", "ETag": f'"{tag}"',
    }  # fmt: skip
    if any(known.value in ("*", tag) for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    part = range(size)
    status = 200
    if request.headers.get("If-Range", headers["ETag"]) == headers["ETag"]:
        try:
            asked = request.http_range
            part = range(size)[asked]
        except ValueError:  # it is no range: RFC 9110, section 14.2, lets it be passed over
            asked = slice(None)
        if asked != slice(None, None, 1) and asked != slice(None):
            status = 206 if part else 416
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}" if part else f"bytes */{size}"
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(part)
    await response.prepare(request)
    if request.method != "HEAD":
        await _copy(request, response, file, part)
    return response


async def _copy(request: web.Request, response: web.StreamResponse, file: IO[bytes], part: range) -> None:
    fd = file.fileno()
    stamp = stamp_of(os.fstat(fd))
    for at in range(part.start, part.stop, _CHUNK_BYTES):
        wanted = min(_CHUNK_BYTES, part.stop - at)
        data = await asyncio.to_thread(os.pread, fd, wanted, at)
        if len(data) != wanted or stamp_of(os.fstat(fd)) != stamp:  # it was written to since it was checked
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError
        await response.write(data)
    await response.write_eof()

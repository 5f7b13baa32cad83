"""``/segments``: the files of history, so that a mirror or a CDN can hold all of it.

A sealed file never changes, and is sent unchanged. All of it is verified before any of it is sent, and the file sent is
the one that was verified, even if it is replaced meanwhile. The active one is sent in another way: see
``answer_active``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from ..bus.ring import Batch, Run
from ..errors import Damaged, NotFound
from ..history.local.sealed_segment import Opened, open_sealed
from ..history.local.segment_file import Segment, segment_name, stamp_of
from ..history.run_history import RunHistory
from ..http.negotiation import matches_etag
from ..http.responses import header_list, json_reply
from ..runtime import Runtime
from ..transports.base import check_identity, check_run, query_of
from .byte_ranges import IMMUTABLE, ByteRange, answer_part
from .ranges import Vanished
from .segment_snapshot import answer_active

_CHUNK_BYTES: Final = 256 * 1024


@dataclass(slots=True)
class ListedSegment:
    """A file of a run, with its content.

    Attributes:
        segment: has its closed blocks; None: there are none yet.
        closed: the highest ``t`` in these.
        open: the batches of its open block.
    """

    run: Run
    name: str
    segment: Segment | None
    first: int
    last: int
    count: int
    closed: int
    sealed: bool = True
    open: list[Batch] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        size = self.segment.size if self.segment is not None and self.sealed else None
        return {
            "run": self.run.id, "name": self.name, "path": f"segments/{self.run.id}/{self.name}", "first": self.first,
            "last": self.last, "count": self.count, "bytes": size, "sealed": self.sealed,
        }  # fmt: skip


def files(history: RunHistory, *, newest: bool) -> list[ListedSegment]:
    """A run's files, oldest first. The last file of the ``newest`` run, and of a run whose seal is not written yet, is
    still active."""
    run, batches = history.run, list(history.open)
    found = [
        ListedSegment(run, file.volume.name, file.volume, file.first, file.last, file.ticks, file.last)
        for file in history.entries.files
        if isinstance(file.volume, Segment)
    ]
    last = found[-1] if found else None
    if last is not None and last.segment is not None and not last.segment.known:
        last.sealed = not batches and not newest and run.restored
    if batches and (last is None or last.sealed):
        first = batches[0].first
        found.append(last := ListedSegment(run, segment_name(first), None, first, first, 0, -1, sealed=False))
    if batches and last is not None:
        last.open, last.last = batches, batches[-1].last
        last.count += sum(len(batch.ticks) for batch in batches)
    return found


def _all(runtime: Runtime, run: str | None) -> list[ListedSegment]:
    newest = runtime.bus.ring.newest
    histories = [history for history in runtime.feed.archive.histories.values() if run in (None, history.run.id)]
    return [one for history in histories for one in files(history, newest=history.run is newest)]


async def segments(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    """``GET /segments``: the list of files; with ``run``, of that run only."""
    query = query_of(request)
    check_run(runtime, query)
    listed = [one.as_dict() for one in _all(runtime, query.run)]
    return json_reply({"segments": listed}, headers={"Cache-Control": "no-store"})


async def segment(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    """``GET /segments/{run}/{name}``: one of them, or a range of its bytes (RFC 9110, section 14)."""
    query_of(request)
    check_identity(request)
    run, name = request.match_info["run"], request.match_info["name"]
    one = next((one for one in _all(runtime, run) if one.name == name), None)
    if one is None:
        raise NotFound(f"no file {name:.80} of run {run:.80}; see /segments")
    if one.segment is None or not one.sealed:
        return await answer_active(request, runtime, one.run, (one.first, one.closed), one.open)
    opened = await _open(runtime, run, one.segment)
    try:
        return await _send(request, runtime, opened, one.segment.size)
    finally:
        opened.file.close()


async def _open(runtime: Runtime, run: str, segment: Segment) -> Opened:
    """Open a file, and verify all of it."""
    archive = runtime.feed.archive
    blocks = archive.histories[run].entries.later(segment)
    try:
        return await runtime.workers.run(open_sealed, segment, run, blocks)
    except (Damaged, OSError) as error:
        if segment.retired:
            raise NotFound(f"{segment.name} of run {run} was just deleted; see /segments") from None
        problem = str(error.strerror if isinstance(error, OSError) else error)
        archive.tell(f"{run}/{segment.name} cannot be given out: {problem}")
        raise Damaged(f"{segment.name} of run {run} is not what was written, and is not given out: {problem}") from None


async def _send(request: web.Request, runtime: Runtime, opened: Opened, size: int) -> web.StreamResponse:
    tag = f"{size:x}-{opened.crc:08x}"
    headers = {"Content-Type": "application/zstd", "Cache-Control": IMMUTABLE, "ETag": f'"{tag}"'}
    if matches_etag(header_list(request, "If-None-Match"), tag):
        return web.Response(status=304, headers=headers)

    async def write(response: web.StreamResponse, part: ByteRange) -> None:
        await _copy(runtime, response, opened, part)

    return await answer_part(request, size, headers, write)


async def _copy(runtime: Runtime, response: web.StreamResponse, opened: Opened, part: ByteRange) -> None:
    fd = opened.file.fileno()
    for at in range(part.begin, part.end, _CHUNK_BYTES):
        wanted = min(_CHUNK_BYTES, part.end - at)
        data = await runtime.workers.run(os.pread, fd, wanted, at)
        if len(data) != wanted or stamp_of(os.fstat(fd)) != opened.stamp:  # it was written to since it was verified
            raise Vanished
        await response.write(data)

"""Snapshots of a run's active segment for ``/segments``: what is stored of it so far, in whole zstd frames.

On disk it ends in the middle of a frame, which many zstd readers refuse. So its closed blocks are sent unchanged, each
verified, followed by the content of the open block as a frame of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import zstandard
from aiohttp import web

from ..bus.ring import Batch, Run
from ..model.cache import ByteBoundedCache
from ..model.query import Query
from ..runtime import Runtime
from ..transports.pull import gap_header
from .body_index import BodyIndex, measure
from .byte_ranges import ByteRange, answer_part
from .range_body import BodyWriter, send_part
from .ranges import Range, Vanished

_SNAPSHOT_BYTES: Final = 32 << 20  # for all snapshots
_HEAD_SECONDS: Final = 2.0  # maximum age of a snapshot for requests of only the length
_PARTS_SECONDS: Final = 60.0  # how long parts of one snapshot can be requested


class SegmentSnapshot(NamedTuple):
    """The content of the file at one moment: its closed blocks, and the open one as a frame of its own."""

    taken: float
    tag: str
    closed: Range
    body_index: BodyIndex
    frame: bytes

    @property
    def cost(self) -> int:
        """Approximate bytes of memory."""
        return len(self.frame) + self.body_index.cost + self.closed.kept


class SegmentSnapshots:
    """The newest snapshot of each file, for clients that request it in parts, which must fit together. On the loop
    only."""

    def __init__(self, max_bytes: int = _SNAPSHOT_BYTES) -> None:
        self._kept: ByteBoundedCache[str, SegmentSnapshot] = ByteBoundedCache(
            max_bytes, lambda path, snapshot: snapshot.cost, least=1
        )

    def find(self, request: web.Request) -> SegmentSnapshot | None:
        """A recent snapshot, for requests for the length or for parts."""
        snapshot = self._kept.get(request.path)
        parts = "Range" in request.headers
        if snapshot is None or not (parts or request.method == "HEAD"):
            return None
        return snapshot if time.monotonic() - snapshot.taken < (_PARTS_SECONDS if parts else _HEAD_SECONDS) else None

    def keep(self, request: web.Request, snapshot: SegmentSnapshot) -> None:
        """Keep a snapshot for requests for its parts."""
        self._kept.put(request.path, snapshot)


SNAPSHOTS_KEY = web.AppKey("tick_gateway.snapshots", SegmentSnapshots)


async def answer_active(
    request: web.Request, runtime: Runtime, run: Run, closed: tuple[int, int], opened: Sequence[Batch]
) -> web.StreamResponse:
    """Answer with a snapshot, or with a part of the one that the client has begun to read.

    Args:
        closed: the first ``t`` in the file, and the last one in a closed block, -1 for none.
        opened: the content of its open block.
    """
    snapshots = request.app[SNAPSHOTS_KEY]
    snapshot = snapshots.find(request)
    while snapshot is None:
        try:
            snapshot = await _take(runtime, run, closed, opened)
        except Vanished:
            continue  # a damaged block is no longer part of the run's history
        if request.method == "HEAD" or "Range" in request.headers:
            snapshots.keep(request, snapshot)
    headers = {"Content-Type": "application/zstd", "Cache-Control": "no-store", "ETag": snapshot.tag}
    if snapshot.closed.gaps:
        headers["Tick-Gap"] = gap_header(snapshot.closed.gaps)
    size = snapshot.body_index.size + len(snapshot.frame)

    async def write(response: web.StreamResponse, part: ByteRange) -> None:
        await _write(BodyWriter(response, runtime.workers), snapshot, part)

    return await answer_part(request, size, headers, write)


async def _take(runtime: Runtime, run: Run, closed: tuple[int, int], opened: Sequence[Batch]) -> SegmentSnapshot:
    first, last = closed
    lines = b"".join([tick.data + b"\n" for batch in opened for tick in batch.ticks])
    end = opened[-1].last if opened else last
    compress = zstandard.ZstdCompressor(level=3).compress
    frame = await runtime.workers.run(compress, lines) if lines else b""
    query = Query(t1=max(last, 0))
    wanted = Range(runtime, run, query, first - 1 if last >= 0 else 0, zstd=True, format="ndjson")
    body_index = await measure(wanted) if last >= 0 else BodyIndex(0, [])
    return SegmentSnapshot(time.monotonic(), f'"{body_index.size}-{end}"', wanted, body_index, frame)


async def _write(body: BodyWriter, snapshot: SegmentSnapshot, part: ByteRange) -> None:
    size = snapshot.body_index.size
    if part.begin < size:
        await send_part(body, snapshot.closed, snapshot.body_index, ByteRange(part.begin, min(part.end, size)))
    if part.end > size:
        await body.write(snapshot.frame[max(part.begin - size, 0) : part.end - size])

"""``/segments``: the sealed files of history, as they lie on disk, so that a mirror or a CDN can hold all of it.

A sealed file never changes. The one that is still written to is not among them; what is in it comes by ``/range``, or
live.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from ..errors import NotFound
from ..history.shelf import Shelf
from ..history.volume import Segment
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
            headers = {"Content-Type": "application/zstd", "Cache-Control": "public, max-age=31536000, immutable"}
            return web.FileResponse(one.segment.path, chunk_size=_CHUNK_BYTES, headers=headers)
    raise NotFound(f"no sealed file {name:.80} of run {run:.80}; see /segments")

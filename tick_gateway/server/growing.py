"""The file of a run that is still written to, as ``/segments`` gives it: what was stored of it so far, in whole frames.

On disk it ends in the middle of a frame, which many readers of zstd refuse. So its closed blocks go out as they lie
there, each checked, and behind them what the open block holds, as a frame of its own.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

import zstandard
from aiohttp import web

from ..bus.ring import Batch, Run
from ..model.query import Query
from ..runtime import Runtime
from ..transports.pull import gap_header
from .bodies import Body, Bytes, Layout, answer_part, measure, send_part
from .ranges import Range, Vanished

_STATES: Final = 8  # of files that are kept
_HEAD_SECONDS: Final = 2.0  # how old a state may be of which only the length is asked for
_PARTS_SECONDS: Final = 60.0  # for how long parts of one state can be asked for


class State(NamedTuple):
    """What the file held at a time: its closed blocks, and its open one as a frame."""

    taken: float
    tag: str
    closed: Range
    layout: Layout
    frame: bytes


class States:
    """States of files, for who asks for one in parts: those belong together. On the loop alone."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, State] = OrderedDict()

    def find(self, request: web.Request) -> State | None:
        """One that is a little older, for who asks for its length, or for parts of it."""
        state = self._kept.get(request.path)
        parts = "Range" in request.headers
        if state is None or not (parts or request.method == "HEAD"):
            return None
        return state if time.monotonic() - state.taken < (_PARTS_SECONDS if parts else _HEAD_SECONDS) else None

    def keep(self, request: web.Request, state: State) -> None:
        """Keep one for who will ask for its parts."""
        self._kept[request.path] = state
        self._kept.move_to_end(request.path)
        if len(self._kept) > _STATES:
            self._kept.popitem(last=False)


STATES_KEY = web.AppKey("tick_gateway.states", States)


async def growing(
    request: web.Request, runtime: Runtime, run: Run, closed: tuple[int, int], opened: Sequence[Batch]
) -> web.StreamResponse:
    """Answer with the newest state.

    Args:
        closed: the first ``t`` in the file, and the last one that is in a closed block, -1 for none.
        opened: what its open block holds.
    """
    states = request.app[STATES_KEY]
    state = states.find(request)
    while state is None:
        try:
            state = await _take(runtime, run, closed, opened)
        except Vanished:
            continue  # what is damaged has left the run's history
        if request.method == "HEAD" or "Range" in request.headers:
            states.keep(request, state)
    headers = {"Content-Type": "application/zstd", "Cache-Control": "no-store", "ETag": state.tag}
    if state.closed.gaps:
        headers["Tick-Gap"] = gap_header(state.closed.gaps)
    size = state.layout.size + len(state.frame)

    async def write(response: web.StreamResponse, part: Bytes) -> None:
        await _write(Body(response, runtime.workers), state, part)

    return await answer_part(request, size, headers, write)


async def _take(runtime: Runtime, run: Run, closed: tuple[int, int], opened: Sequence[Batch]) -> State:
    first, last = closed
    lines = b"".join([tick.data + b"\n" for batch in opened for tick in batch.ticks])
    end = opened[-1].last if opened else last
    compress = zstandard.ZstdCompressor(level=3).compress
    frame = await runtime.workers.run(compress, lines) if lines else b""
    query = Query(t1=max(last, 0))
    wanted = Range(
        runtime.feed, runtime.fanout.encoder, run, query, first - 1 if last >= 0 else 0, zstd=True, form="ndjson"
    )
    layout = await measure(wanted) if last >= 0 else Layout(0, [])
    return State(time.monotonic(), f'"{layout.size}-{end}"', wanted, layout, frame)


async def _write(body: Body, state: State, part: Bytes) -> None:
    size = state.layout.size
    if part.begin < size:
        await send_part(body, state.closed, state.layout, Bytes(part.begin, min(part.end, size)))
    if part.end > size:
        await body.write(state.frame[max(part.begin - size, 0) : part.end - size])

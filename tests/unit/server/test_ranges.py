"""``/range`` over history: as lines, as JSON, and as the zstd frames that lie on disk; what may be cached of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
import zstandard
from aiohttp import ClientSession

from tests.support import history_files
from tests.support.async_client import request
from tests.support.gateway_process import GatewayProcess
from tests.support.made_history import STEP, A, B, Served, made, opened, write

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Served]:
    async with made(tmp_path / "history") as found:
        yield found


async def frames_of(port: int, target: str) -> list[bytes]:
    """The zstd frames of an answer, as they come."""
    async with (
        ClientSession(auto_decompress=False) as session,
        session.get(f"http://127.0.0.1:{port}{target}", headers={"Accept-Encoding": "zstd"}) as answer,
    ):
        assert answer.headers["Content-Encoding"] == "zstd"
        body = await answer.read()
    found: list[bytes] = []
    while body:
        decoder = zstandard.ZstdDecompressor().decompressobj()
        decoder.decompress(body)
        assert decoder.eof, "a frame is cut off"
        found.append(body[: len(body) - len(decoder.unused_data)])
        body = decoder.unused_data
    return found


def plain(frames: Iterable[bytes]) -> list[bytes]:
    """The lines in frames."""
    return b"".join(zstandard.ZstdDecompressor().decompressobj().decompress(one) for one in frames).splitlines()


EDGES = [
    (None, None), (0, None), (None, 600), (3, 3), (0, 2), (4, 7), (43, 444), (44, 443), (700, 10_000), (998, 998),
    (10_000, 20_000),
]  # fmt: skip


@pytest.mark.parametrize("run", ["A", "B", None])
@pytest.mark.parametrize(("t0", "t1"), EDGES)
async def test_ranges(scene: Served, run: str | None, t0: int | None, t1: int | None) -> None:
    asked = {"t0": t0, "t1": t1, "run": run}
    query = "&".join(f"{name}={value}" for name, value in asked.items() if value is not None)
    want = scene.lines(run or "B", t0 or 0, 1 << 60 if t1 is None else t1)
    lines = await scene.get(f"/range?{query}")
    assert (lines.status, lines.headers["Content-Type"]) == (200, "application/x-ndjson")
    assert (await lines.read()).splitlines() == want and "Tick-Gap" not in lines.headers
    array = await scene.get(f"/range?{query}", Accept="application/json")
    assert array.headers["Content-Type"] == "application/json"
    assert await array.read() == b"[" + b",".join(want) + b"]"
    coded = await scene.get(f"/range?{query}", Accept_Encoding="gzip, zstd")
    assert coded.headers["Content-Encoding"] == "zstd"
    assert (await coded.read()).splitlines() == want
    few = await scene.get(f"/range?{query}&limit=7", Accept_Encoding="zstd")
    assert (await few.read()).splitlines() == want[:7]


@pytest.mark.parametrize("coding", ["identity", "zstd"])
async def test_ranges_whose_edges_are_those_of_blocks(scene: Served, coding: str) -> None:
    """Or lie just beside them, in the holes of ``t``."""
    path = history_files.segments(Path(scene.harness.gateway.settings.data), "A")[0]
    ends = [
        json.loads(history_files.decoded(path, frame)[-1])["t"]
        for frame in history_files.frames(path)
        if not frame.skippable
    ]
    edges = [end + beside for end in ends[:2] for beside in (-STEP, -1, 0, 1, STEP - 1, STEP, STEP + 1)]
    for t0 in edges:
        for t1 in (t for t in edges if t >= t0):
            answer = await scene.get(f"/range?run=A&t0={t0}&t1={t1}", Accept_Encoding=coding)
            assert (await answer.read()).splitlines() == scene.lines("A", t0, t1), (t0, t1)
            assert "Tick-Gap" not in answer.headers


async def test_whole_blocks_go_out_as_they_lie_on_disk(scene: Served) -> None:
    """And the two at the edges are cut."""
    first, *middle, last = await frames_of(scene.port, "/range?run=A&t0=43&t1=644")
    directory = Path(scene.harness.gateway.settings.data)
    on_disk = [
        path.read_bytes()[frame.at : frame.at + frame.size]
        for path in history_files.segments(directory, "A")
        for frame in history_files.frames(path)
        if not frame.skippable
    ]
    at = on_disk.index(middle[0])
    assert len(middle) > 10 and middle == on_disk[at : at + len(middle)]
    assert first not in on_disk and last not in on_disk
    assert plain([first, *middle, last]) == scene.lines("A", 43, 644)


GOT = "got (https://github.com/sindresorhus/got)"


@pytest.mark.parametrize(
    ("target", "user_agent", "cached"),
    [
        (f"/range?run=A&t1={A[-1]}", GOT, "private, max-age=31536000, immutable"),
        (f"/range?run=A&t1={A[-1]}", "node", "private, max-age=31536000, immutable"),
        (f"/range?run=A&t1={A[-1]}&format=ndjson", "anybody", "public, max-age=31536000, immutable"),
        (f"/range?run=A&t1={A[-1]}&format=json", GOT, "private, max-age=31536000, immutable"),
        ("/range?run=A", "undici", "no-store"),
        ("/range?run=A&format=ndjson", "anybody", "no-store"),
        ("/incremental?run=A&limit=9999&format=ndjson", GOT, "no-store"),
        ("/poll?last_t=A:-1&limit=9999", GOT, "no-store"),
    ],
)
async def test_who_reads_one_frame_gets_one(scene: Served, target: str, user_agent: str, cached: str) -> None:
    """Some clients drop all behind the first frame without a word: known ones, and who asks for a form by name."""
    async with (
        ClientSession(auto_decompress=False) as session,
        session.get(
            f"http://127.0.0.1:{scene.port}{target}", headers={"Accept-Encoding": "zstd", "User-Agent": user_agent}
        ) as answer,
    ):
        assert (answer.headers["Content-Encoding"], answer.headers["Cache-Control"]) == ("zstd", cached)
        body = await answer.read()
    decoder = zstandard.ZstdDecompressor().decompressobj()
    found = decoder.decompress(body)
    assert (decoder.eof, decoder.unused_data) == (True, b"")
    assert all(line in found for line in scene.lines("A", 0, A[-1]))


@pytest.mark.parametrize(
    ("asked", "given"),
    [("zstd", None), ("gzip, deflate, br, zstd", "gzip"), ("zstd, gzip;q=0.1", "gzip"), ("*", "gzip")],
)
@pytest.mark.parametrize("path", ["/ndjson", "/sse", "/stream", "/"])
async def test_streams_in_frames_are_not_for_who_reads_one(
    scene: Served, path: str, asked: str, given: str | None
) -> None:
    answer = await scene.get(f"{path}?run=A&limit=100&from_t=A:-1", Accept_Encoding=asked, User_Agent=GOT)
    assert answer.headers.get("Content-Encoding") == given
    body = await answer.read()
    assert all(line in body for line in scene.lines("A", 0, A[99])) and b'"reason":"limit"' in body


async def test_answers_that_never_change(scene: Served) -> None:
    """Those alone whose URL names the run, and whose end is stored."""
    tip = scene.ledger.tip[1]
    lasting = [f"/range?run=A&t1={A[-1]}", f"/range?run=A&t1={A[-1] + 999}", f"/range?run=B&t0=5&t1={tip}",
               "/ticks/3?run=A", f"/ticks/{tip}?run=B"]  # fmt: skip
    passing = ["/range", "/range?run=A", "/range?t0=5&t1=10", f"/range?run=B&t1={tip + 1}", "/ticks/5", "/latest?run=A"]
    tags: list[str] = []
    for target in lasting:
        for headers in ({}, {"Accept": "application/json"}, {"Accept_Encoding": "zstd"}):
            answer = await scene.get(target, **headers)
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable", target
            assert set(answer.headers["Vary"].split(", ")) == {"Accept", "Accept-Encoding"}
            tag = answer.headers["ETag"]
            body = await answer.read()
            same = await scene.get(target, If_None_Match=tag, **headers)
            assert (same.status, same.headers["ETag"], await same.read()) == (304, tag, b"")
            for name in ("Cache-Control", "Vary", "Tick-Run", "Access-Control-Allow-Origin"):
                assert same.headers[name] == answer.headers[name], "RFC 9110, section 15.4.5: as in the 200"
            assert not {"Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding"} & set(same.headers)
            for known in (f'"x", {tag}', "*", tag.removeprefix("W/"), f'W/"y" , "z",{tag}'):
                assert (await scene.get(target, If_None_Match=known, **headers)).status == 304
            other = await scene.get(target, If_None_Match='"other"', **headers)
            assert (other.status, await other.read()) == (200, body)
            tags += [tag] if target.startswith("/range") else []
    assert len(set(tags)) == len(tags), "another form, another tag"
    for target in passing:
        answer = await scene.get(target)
        assert answer.headers["Cache-Control"] == "no-store" and "ETag" not in answer.headers, target
        await answer.read()


async def test_an_answer_with_a_gap_is_not_for_ever(tmp_path: Path) -> None:
    ledger = write(tmp_path / "history", {"A": A, "B": B})
    history_files.segments(tmp_path / "history", "A")[1].unlink()
    (tmp_path / "history" / "A" / "index").unlink()
    async with opened(tmp_path / "history", ledger) as s:
        for headers in ({}, {"Accept_Encoding": "zstd"}):
            answer = await s.get(f"/range?run=A&t1={A[-1]}", **headers)
            assert answer.headers["Cache-Control"] == "no-store" and "ETag" not in answer.headers
            assert re.fullmatch(r"after=\d+;next=\d+", answer.headers["Tick-Gap"])
            await answer.read()


async def test_a_shutdown_in_the_middle_of_a_range(tmp_path: Path) -> None:
    """Who was being answered from disk is cut off, and nothing is logged with a traceback."""
    write(tmp_path / "history", {"B": range(20_000)}, together=500, block_bytes=1 << 16, segment_bytes=1 << 20)
    with GatewayProcess("serve", "--data", str(tmp_path / "history"), "--drain-timeout", "0.2") as gateway:
        slow = await request(gateway.port, "/range?run=B", small=True)
        pieces = slow.pieces()
        assert await anext(pieces)
        assert await asyncio.to_thread(gateway.terminate) == 0
        with pytest.raises((EOFError, OSError)):
            async for _ in pieces:
                continue
        slow.close()

"""``/segments``: what goes out is what was written, whatever somebody put in its place."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.support import history_files
from tests.support.made_history import STEP, Served, made, tick_of
from tests.support.reconnecting import PATIENCE
from tests.support.requests import ask
from tick_gateway.history.block_index import BlockRange
from tick_gateway.history.local.commit_worker import CommitResult
from tick_gateway.history.local.sealed_segment import Opened, open_sealed
from tick_gateway.history.local.segment_file import Segment
from tick_gateway.history.stored_block import Entry
from tick_gateway.server import segments

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Served]:
    async with made(tmp_path / "history") as found:
        yield found


def second(scene: Served) -> tuple[Path, str]:
    """A sealed file of run A, and its path on the network."""
    path = history_files.segments(Path(scene.harness.gateway.settings.data), "A")[1]
    return path, f"/segments/A/{path.name}"


async def test_all_of_history_can_be_mirrored(scene: Served) -> None:
    directory = Path(scene.harness.gateway.settings.data)
    listed: list[dict[str, Any]] = (await ask(scene.port, "/segments"))["segments"]
    assert {one["run"] for one in listed} == {"A", "B"} and len(listed) > 5
    described = (await ask(scene.port, "/openapi.json"))["components"]["schemas"]["Segments"]
    for one in listed:
        assert set(one) == set(described["properties"]["segments"]["items"]["properties"])
    for one in listed:
        answer = await scene.get("/" + one["path"])
        data = (directory / one["run"] / one["name"]).read_bytes()
        assert (answer.status, await answer.read()) == (200, data)
        assert answer.headers["Content-Length"] == str(one["bytes"]) == str(len(data))
        again = await scene.get("/" + one["path"], If_None_Match=answer.headers["ETag"])
        assert again.status == 304


@pytest.mark.parametrize(
    "asked, low, high",
    [("0-0", 0, 1), ("10-19", 10, 20), ("10-", 10, None), ("-7", -7, None), ("100-99999999", 100, None)],
)
async def test_ranges_of_bytes(scene: Served, asked: str, low: int, high: int | None) -> None:
    path, target = second(scene)
    data = path.read_bytes()
    answer = await scene.get(target, Range=f"bytes={asked}")
    assert (answer.status, await answer.read()) == (206, data[low:high])
    begin = range(len(data))[low]
    end = begin + len(data[low:high]) - 1
    assert answer.headers["Content-Range"] == f"bytes {begin}-{end}/{len(data)}"
    tag = answer.headers["ETag"]
    assert (await scene.get(target, Range=f"Bytes={asked}", If_Range=tag)).status == 206, "units have no case"
    whole = await scene.get(target, Range=f"bytes={asked}", If_Range='"other"')
    assert (whole.status, await whole.read()) == (200, data)


async def test_ranges_that_cannot_be_had(scene: Served) -> None:
    path, target = second(scene)
    size = path.stat().st_size
    beyond = await scene.get(target, Range=f"bytes={size}-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")
    assert beyond.headers["Cache-Control"] == "no-store"
    for nonsense in ("bytes=x-", "bytes=9-3", "lines=1-2", "bytes=" + "9" * 5000 + "-"):
        assert (await scene.get(target, Range=nonsense)).status == 200


async def test_who_takes_no_bytes_as_they_are(scene: Served) -> None:
    """A file is a file: it is not compressed once more."""
    _, target = second(scene)
    for refusal in ("gzip, identity;q=0", "*;q=0"):
        answer = await scene.get(target, Accept_Encoding=refusal)
        assert (answer.status, (await answer.json())["error"]) == (406, "not_acceptable")


def by_a_link(path: Path, elsewhere: Path) -> None:
    elsewhere.write_bytes(b"not for you")
    path.unlink()
    path.symlink_to(elsewhere)


def by_a_link_to_something_as_long(path: Path, elsewhere: Path) -> None:
    elsewhere.write_bytes(b"x" * path.stat().st_size)
    path.unlink()
    path.symlink_to(elsewhere)


def by_another_sealed_file(path: Path, elsewhere: Path) -> None:
    shutil.copyfile(history_files.segments(path.parent.parent, "A")[2], path)


def by_a_directory(path: Path, elsewhere: Path) -> None:
    path.unlink()
    path.mkdir()


def by_a_pipe(path: Path, elsewhere: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def by_a_link_in_a_circle(path: Path, elsewhere: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def by_a_flipped_bit(path: Path, elsewhere: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def by_one_that_is_cut(path: Path, elsewhere: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def by_one_that_goes_on(path: Path, elsewhere: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def by_nothing(path: Path, elsewhere: Path) -> None:
    path.unlink()


SWAPS = [
    by_a_link, by_a_link_to_something_as_long, by_another_sealed_file, by_a_directory, by_a_pipe, by_a_link_in_a_circle,
    by_a_flipped_bit, by_one_that_is_cut, by_one_that_goes_on, by_nothing,
]  # fmt: skip


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("asked_before", [False, True], ids=["never asked for", "asked for before"])
async def test_a_sealed_file_that_was_swapped(
    scene: Served, tmp_path: Path, swap: Callable[[Path, Path], None], asked_before: bool
) -> None:
    path, target = second(scene)
    if asked_before:
        assert (await scene.get(target)).status == 200
    swap(path, tmp_path / "elsewhere")
    for _ in range(2):
        answer = await scene.get(target)
        body = await answer.read()
        assert answer.status == 500 and b'"damaged"' in body and b"not for you" not in body
        assert str(tmp_path).encode() not in body
    health = await ask(scene.port, "/healthz")
    assert health["status"] == "degraded" and any("cannot be given out" in told for told in health["damage"])
    assert (await scene.get("/segments/A/" + history_files.segments(path.parent.parent, "A")[0].name)).status == 200


async def test_what_is_known_of_a_files_blocks_is_looked_at_by_threads_alone(
    scene: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once: of a file that was found to be sound, and has not changed, nothing is looked at again."""
    looked: list[str] = []
    entries = BlockRange.entries

    def look(some: BlockRange) -> Iterator[Entry]:
        looked.append(threading.current_thread().name)
        return entries(some)

    monkeypatch.setattr(BlockRange, "entries", look)
    _, target = second(scene)
    assert (await scene.get(target)).status == 200
    assert looked and all(name.startswith("tick-gateway-work") for name in looked)
    looked.clear()
    assert (await scene.get(target, Range="bytes=0-9")).status == 206
    assert (await scene.get("/segments")).status == 200
    assert not looked


async def test_a_sealed_file_that_is_written_to_right_behind_the_look_at_it(
    scene: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = second(scene)
    os.utime(path, (1, 1))  # so that another time of change is another
    assert (await scene.get(target)).status == 200

    def late(*args: Any) -> Opened:
        opened = open_sealed(*args)
        by_a_flipped_bit(path, path)
        return opened

    monkeypatch.setattr(segments, "open_sealed", late)
    answer = await scene.get(target)
    with pytest.raises((EOFError, OSError)):
        await answer.read()
    answer.close()


async def test_a_true_copy_elsewhere_is_as_good(scene: Served, tmp_path: Path) -> None:
    """An operator may move old files to another disk and leave links."""
    path, target = second(scene)
    data = path.read_bytes()
    assert (await scene.get(target)).status == 200
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    answer = await scene.get(target)
    assert (answer.status, await answer.read()) == (200, data)


@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=0-"}], ids=["all", "a part"])
async def test_a_file_that_is_written_to_while_it_is_sent(
    scene: Served, monkeypatch: pytest.MonkeyPatch, asked: dict[str, str]
) -> None:
    """It was checked before. What goes out breaks off, and does not look whole."""
    path, target = second(scene)
    written = path.read_bytes()
    pread = os.pread

    def read_and_write(fd: int, size: int, at: int) -> bytes:
        data = pread(fd, size, at)
        if size == 100 and path.read_bytes() == written:
            path.write_bytes(b"x" * len(written))
        return data

    monkeypatch.setattr(segments, "_CHUNK_BYTES", 100)
    monkeypatch.setattr(os, "pread", read_and_write)
    answer = await scene.get(target, **asked)
    assert answer.headers["Content-Length"] == str(len(written))
    with pytest.raises(EOFError):
        await answer.read()
    assert path.read_bytes() != written


@pytest.mark.parametrize("swap", [by_another_sealed_file, by_a_flipped_bit, by_a_link_to_something_as_long])
async def test_blocks_of_a_file_that_was_swapped_after_they_were_checked(
    scene: Served, tmp_path: Path, swap: Callable[[Path, Path], None]
) -> None:
    """Whoever takes zstd is given blocks as they lie on disk: not those of another file."""
    path, _ = second(scene)
    for _ in range(2):
        before = await scene.get("/range?run=A", Accept_Encoding="zstd")
        assert (await before.read()).splitlines() == scene.lines("A")
    swap(path, tmp_path / "elsewhere")
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await scene.get("/range?run=A", Accept_Encoding="zstd")
            try:
                lines = (await answer.read()).splitlines()
            except EOFError:  # it was found out when half of it was sent
                continue
            break
    wanted = scene.lines("A")
    assert set(lines) < set(wanted) and lines == [line for line in wanted if line in set(lines)]
    assert "Tick-Gap" in answer.headers


async def test_a_file_that_was_sealed_a_moment_ago(scene: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that writes has sealed a file, and the loop was not told yet of the last block in it."""
    runtime = scene.harness.runtime
    pipeline, history = scene.harness.store.pipeline, runtime.feed.archive.histories["B"]
    newest = history.entries.files[-1].volume
    assert isinstance(newest, Segment)
    while newest.sealed or not history.open:
        await scene.publish(1)
        newest = history.entries.files[-1].volume
        assert isinstance(newest, Segment)
    told: list[CommitResult] = []
    monkeypatch.setattr(pipeline, "_done", told.append)
    t = scene.ledger.tip[1]
    while not newest.sealed:
        t += STEP
        runtime.bus.publish(tick_of("B", t), run="B")
        await asyncio.sleep(0.001)
    for one in (await ask(scene.port, "/segments?run=B"))["segments"]:
        answer = await scene.get("/" + one["path"])
        data = zstandard.ZstdDecompressor().stream_reader(await answer.read(), read_across_frames=True).read()
        assert (answer.status, data.count(b"\n")) == (200, one["count"]), one
        assert one["sealed"] is (one["name"] != newest.name), one
    monkeypatch.undo()
    for wrote in told:
        pipeline._done(wrote)
    listed = (await ask(scene.port, "/segments?run=B"))["segments"]
    assert newest.name in [one["name"] for one in listed if one["sealed"]]

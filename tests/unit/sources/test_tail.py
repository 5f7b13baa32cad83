"""``tick-gateway serve --tail DIR``: a backend that knows of no gateway, and readers of every transport."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import random
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.conftest import Command
from tests.support import blocking_client as sockets
from tests.support import made_history, needs
from tests.support.backend import Writer, line_of, run_of
from tests.support.blocking_client import UPGRADE
from tests.support.events import Gap, Ledger, Reset, Tick
from tests.support.gateway_process import ROOT, RestartableGateway, Running
from tests.support.reconnecting import CLIENTS, ReconnectingReaders, reader
from tests.support.requests import ask, metric, post, range_of
from tick_gateway.history.external.directory import FileGone, SourceDirectory

ORIGINAL = ROOT / "examples" / "original_backend.py"
PATIENCE = 60.0


def original(folder: Path, *, downsample: int = 1, ticks: int = 0, rate: float = 300, segment: int = 100) -> Running:
    """The original backend, as it is."""
    command = [sys.executable, ORIGINAL, folder, "--ticks", ticks, "--rate", rate]
    env = {"DOWNSAMPLE": str(downsample), "SEGMENT_TICKS": str(segment)}
    return Running([str(part) for part in command], env=env)


def written(folder: Path) -> list[bytes]:
    """The lines of a directory of whole files, as another program reads them."""
    found: list[bytes] = []
    for path in sorted(folder.iterdir(), key=lambda path: int(path.name.split(".")[0].split("_")[1])):
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as data:
            found += data.read().splitlines()
    return found


def readable(folder: Path) -> list[bytes]:
    """The lines of a directory whose files may be torn."""
    directory = SourceDirectory(folder, 1 << 20)
    found: list[bytes] = []
    while events := directory.read():
        found += [line for event in events if not isinstance(event, FileGone) for line in event.lines]
    directory.close()
    return found


def ledger_of(lines: Iterable[bytes], name: Callable[[bytes], str]) -> Ledger:
    """The runs that lines make; ``name`` says which run begins with a line."""
    ledger, run, tip = Ledger(), "", -1
    for line in lines:
        t = json.loads(line)["t"]
        run = run if t > tip and run else name(line)
        ledger.note(run, t, line)
        tip = t
    return ledger


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            now = condition()
            if now if isinstance(now, bool) else await now:
                return
            await asyncio.sleep(0.01)  # until it is asked again


async def first_run(gateway: RestartableGateway) -> str:
    """The name of the run that is being published."""
    found: list[str | None] = [None]

    async def there() -> bool:
        found[0] = (await ask(gateway.port, "/meta"))["run"]
        return found[0] is not None

    await until(there)
    assert found[0] is not None
    return found[0]


def tail(folder: Path, *options: str, data: Path | None = None) -> RestartableGateway:
    return RestartableGateway(data, "--tail", str(folder), *options)


async def everything(gateway: RestartableGateway, run: str, *names: str) -> dict[str, list[bytes]]:
    """What readers of each kind are given of a run from its beginning."""
    numbers = (await ask(gateway.port, "/runs"))["runs"]
    (last,) = [one["last"] for one in numbers if one["run"] == run]
    found: dict[str, list[bytes]] = {}
    for name in names or CLIENTS:
        one = await reader(name, gateway.port, from_t=f"{run}:-1").connect()
        found[name] = [event.data for event in await one.until(last, run) if isinstance(event, Tick)]
        one.close()
    return found


# ---- the original backend ----


@pytest.mark.parametrize("downsample", [1, 5])
@pytest.mark.parametrize("kept", [False, True], ids=["in-place", "data"])
async def test_the_original_backend_unchanged(tmp_path: Path, downsample: int, kept: bool) -> None:
    folder = tmp_path / "segments"
    async with tail(folder, data=tmp_path / "history" if kept else None) as gateway:
        with original(
            folder, downsample=downsample, ticks=250 * downsample, rate=400 * downsample, segment=70
        ) as backend:
            run = await first_run(gateway)
            async with ReconnectingReaders(gateway.port, run) as readers:
                await asyncio.to_thread(backend.wait)
                lines = written(folder)
                assert [json.loads(line)["t"] for line in lines] == list(range(0, 250 * downsample, downsample))
                assert len(list(folder.iterdir())) == 4
                await readers.reach(249 * downsample)
                assert run == run_of("segment_0", lines[0])
                notices = readers.check(ledger_of(lines, lambda _: run))
                assert not any(notices.values()), "a hole in t is no gap"
        assert (await range_of(gateway.port, run)) == (lines, None)


def test_the_original_backend_goes_on_behind_files_that_were_deleted(tmp_path: Path) -> None:
    """Its files are numbered by the highest there is, not by how many there are: no name comes twice."""
    for _ in range(2):
        with original(tmp_path, ticks=9, rate=0, segment=2) as backend:
            assert backend.wait() == 0
        for number in range(3):
            (tmp_path / f"segment_{number}.jsonl.zst").unlink(missing_ok=True)
    assert {path.name for path in tmp_path.iterdir()} == {f"segment_{number}.jsonl.zst" for number in range(3, 9)}
    assert len(readable(tmp_path)) == 3 + 9


async def test_the_backend_is_killed_and_starts_over(tmp_path: Path) -> None:
    """In the middle of its writing, in the same segment, while that rotates; each life is longer than the last."""
    folder = tmp_path / "segments"
    turns = random.Random()
    async with tail(folder) as gateway:
        run, readers = "", None
        for life in range(4):
            with original(folder, segment=30, rate=400) as backend:
                if readers is None:
                    run = await first_run(gateway)
                    readers = await ReconnectingReaders(gateway.port, run).__aenter__()
                wanted = 40 * (life + 1) + turns.randrange(20)
                await until(lambda wanted=wanted, readers=readers: readers.newest >= wanted)  # type: ignore[misc]
                backend.process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(backend.wait)
        assert readers is not None
        lines = readable(folder)
        starts = [line for line in lines if json.loads(line)["t"] == 0]
        assert len(starts) == 4
        known = [one["run"] for one in (await ask(gateway.port, "/runs"))["runs"]]
        names = dict(zip(starts, known, strict=True))
        await readers.reach(json.loads(lines[-1])["t"])
        for notices in readers.check(ledger_of(lines, names.__getitem__)).values():
            assert len(notices) == 3 and all(isinstance(notice, Reset) for notice in notices)
        await readers.__aexit__()
        assert all(re.fullmatch(rf"segment_\d+-{run_of('', line)[1:]}", name) for line, name in names.items())


@pytest.mark.parametrize("kept", [False, True], ids=["in-place", "data"])
async def test_the_gateway_is_killed_under_a_backend(tmp_path: Path, kept: bool) -> None:
    """And is stopped: readers come back at their positions, and every tick comes once."""
    folder, data = tmp_path / "segments", tmp_path / "history"
    options = ("--ring", "100", "--block-bytes", "8k", "--segment-bytes", "32k")
    turns = random.Random()
    async with tail(folder, *options, data=data if kept else None) as gateway:
        with original(folder, segment=150, rate=300) as backend:
            run = await first_run(gateway)
            async with ReconnectingReaders(gateway.port, run) as readers:
                for kill in range(4):
                    goal = readers.newest + turns.randrange(40, 100)
                    await until(lambda goal=goal: readers.newest >= goal)  # type: ignore[misc]
                    readers.up.clear()
                    await (gateway.kill() if kill != 2 else gateway.stop())
                    await readers.away()
                    await gateway.start()
                    readers.up.set()
                await readers.reach(readers.newest + 100)
                backend.process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(backend.wait)
                lines = readable(folder)
                await readers.reach(json.loads(lines[-1])["t"])
                notices = readers.check(ledger_of(lines, lambda _: run))
                assert not any(notices.values()), notices
        assert (await range_of(gateway.port, run)) == (lines, None)
        if kept:
            await until(
                lambda: json.loads((data / ".tail.json").read_bytes())["runs"]["tip"] == json.loads(lines[-1])["t"]
            )


# ---- the directory as history ----


async def test_what_memory_has_not_is_read_from_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "segments"
    folder.mkdir()
    lines = [line_of(t, t, 300, noise=True) for t in range(0, 12_000, 2)]
    with Writer(folder / "s1.jsonl.zst") as writer:
        writer.write(*lines[:3000])
    with Writer(folder / "s2.jsonl") as writer:
        writer.write(*lines[3000:4000])
    live = Writer(folder / "s3.jsonl.zst")
    live.write(*lines[4000:4500])
    run = run_of("s1", lines[0])
    async with tail(folder, "--ring", "50") as gateway:
        health = await ask(gateway.port, "/healthz")
        assert health["history"].startswith("read in place") and health["status"] == "ok"
        assert (await ask(gateway.port, "/latest"))["t"] == 8998
        assert (await everything(gateway, run)) == dict.fromkeys(CLIENTS, lines[:4500])
        follower = await reader("ndjson", gateway.port, from_t=f"{run}:8998").connect()
        live.write(*lines[4500:])
        await follower.until(11_998)
        live.close()
        assert (await everything(gateway, run)) == dict.fromkeys(CLIENTS, lines)
        assert (await range_of(gateway.port, run)) == (lines, None)
        for t in (0, 2, 5998, 6000, 7998, 8000, 8998, 9000, 9500, 11_900, 11_998):
            assert (await ask(gateway.port, f"/ticks/{t}"))["t"] == t
        one = await reader("ndjson", gateway.port, tail=3000, limit=1).connect()
        assert [event.data for event in await one.rest() if isinstance(event, Tick)] == [lines[3000]]
        one = await reader("sse", gateway.port, from_t=f"{run}:5001", every=500, limit=3).connect()
        assert [event.t for event in await one.rest() if isinstance(event, Tick)] == [5500, 6000, 6500]
        damaged = await metric(gateway.port, "tick_gateway_history_damaged_total")
        assert damaged == 0


async def test_times_of_what_was_there_and_of_what_comes(tmp_path: Path) -> None:
    import os
    import time

    folder = tmp_path / "segments"
    folder.mkdir()
    for number in range(2):
        path = folder / f"s{number}.jsonl"
        with Writer(path) as writer:
            writer.write(*(line_of(number * 1000 + t) for t in range(1000)))
        os.utime(path, (0, 1_000_000 + number * 1000))
    begun = int(time.time() * 1000)
    async with tail(folder, "--ring", "10") as gateway:
        one = await reader("ndjson", gateway.port, tail=2000, stamp=1, limit=2000).connect()
        assert one.response is not None
        body = (await one.response.read()).decode()
        ats = [json.loads(line)["at"] for line in body.splitlines() if "data" in line]
        assert ats[0] == 1_000_000_000 and ats[1999] == 1_001_000_000
        assert ats == sorted(ats) and 1_000_499_000 < ats[1500] < 1_000_501_000
        since = await ask(gateway.port, "/poll?since=1970-01-12T13:55:00Z")  # 500 s into the second file
        assert 1490 < since["t"] < 1510
        with Writer(folder / "s1.jsonl") as writer:
            writer.write(line_of(5000))
        await until(lambda: _tip_is(gateway, 5000))
        (stamped,) = await ask(gateway.port, "/incremental?from_t=1999&stamp=1")
        assert begun <= stamped["at"] <= time.time() * 1000


async def _tip_is(gateway: RestartableGateway, t: int) -> bool:
    return bool((await ask(gateway.port, "/meta"))["tip"] == t)


async def test_the_same_names_after_a_restart(tmp_path: Path) -> None:
    """Without chance in the simulation, gateway in one file begin alike; each has its own name all the same."""
    folder = tmp_path / "segments"
    folder.mkdir()
    names: list[list[str]] = []
    with Writer(folder / "a.jsonl.zst") as writer:
        writer.write(line_of(0), line_of(1), line_of(0), line_of(1))
        for _ in range(3):
            async with tail(folder) as gateway:
                writer.write(line_of(0), line_of(1))
                count = 3 + len(names)
                await until(lambda count=count: _runs(gateway, count))  # type: ignore[misc]
                names.append([one["run"] for one in (await ask(gateway.port, "/runs"))["runs"]])
    assert names[2][:4] == names[1] and names[1][:3] == names[0] and len(set(names[2])) == 5


async def _runs(gateway: RestartableGateway, count: int) -> bool:
    return len((await ask(gateway.port, "/runs"))["runs"]) == count


async def test_files_that_are_deleted_are_a_gap(tmp_path: Path) -> None:
    folder = tmp_path / "segments"
    folder.mkdir()
    for number in range(3):
        with Writer(folder / f"s{number}.jsonl") as writer:
            writer.write(*(line_of(number * 100 + t, number) for t in range(100)))
    run = run_of("s0", line_of(0))
    async with tail(folder, "--ring", "10") as gateway:
        (folder / "s1.jsonl").unlink()

        async def gone() -> bool:
            with contextlib.suppress(EOFError):  # it is found out when half of the answer is sent
                return (await range_of(gateway.port, run))[1] is not None
            return False

        await until(gone)
        lines, gap = await range_of(gateway.port, run)
        assert gap == "after=99;next=200" and len(lines) == 200
        one = await reader("ndjson", gateway.port, from_t=f"{run}:-1").connect()
        assert [event for event in await one.until(299) if isinstance(event, Gap)] == [Gap(run, 99, 200)]
        health = await ask(gateway.port, "/healthz")
        assert health["status"] == "ok", "it was deleted on purpose"


async def test_files_are_renamed_and_compressed_under_readers(tmp_path: Path) -> None:
    folder = tmp_path / "segments"
    folder.mkdir()
    lines = [line_of(t, t, 100) for t in range(900)]
    for number in range(3):
        with Writer(folder / f"s{number}.jsonl") as writer:
            writer.write(*lines[number * 300 : number * 300 + 300])
    run = run_of("s0", lines[0])
    async with tail(folder, "--ring", "10", "--history-cache", "0") as gateway:
        assert (await range_of(gateway.port, run)) == (lines, None)
        (folder / "s0.jsonl").rename(folder / "old.jsonl")
        assert (await range_of(gateway.port, run)) == (lines, None)
        packed = zstandard.compress((folder / "s1.jsonl").read_bytes())
        (folder / "s1.jsonl.zst").write_bytes(packed)
        (folder / "s1.jsonl").unlink()
        assert (await range_of(gateway.port, run)) == (lines, None)
        assert (await everything(gateway, run, "sse")) == {"sse": lines}


async def test_a_file_that_is_begun_anew_under_readers(tmp_path: Path) -> None:
    folder = tmp_path / "segments"
    folder.mkdir()
    old, new = [line_of(t, 1) for t in range(50)], [line_of(t, 2) for t in range(20)]
    with Writer(folder / "a.jsonl.zst") as writer:
        writer.write(*old)
    async with tail(folder, "--ring", "10") as gateway:
        one = await reader("ndjson", gateway.port, from_t=f"{run_of('a', old[0])}:-1").connect()
        await one.until(49)
        with Writer(folder / "a.jsonl.zst", anew=True) as writer:
            writer.write(*new)
        events = await one.until(19)
        assert events[0] == Reset(run_of("a", new[0]), run_of("a", old[0]), True)
        assert [event.data for event in events if isinstance(event, Tick)] == new
        one = await reader("ndjson", gateway.port, from_t=f"{run_of('a', old[0])}:10").connect()
        gap, reset = [event for event in await one.until(19, run_of("a", new[0])) if isinstance(event, Gap | Reset)]
        assert gap == Gap(run_of("a", old[0]), 10, None), "of what memory has let go of, the file has nothing more"
        assert reset == Reset(run_of("a", new[0]), run_of("a", old[0]), False)


# ---- beside it ----


async def test_bad_lines_are_told_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "segments"
    folder.mkdir()
    with Writer(folder / "a.jsonl") as writer:
        writer.write(b"nonsense", line_of(0), b"more of it", line_of(1))
        async with tail(folder) as gateway:
            writer.write(b'{"t":"x"}', line_of(2))
            await until(lambda: _tip_is(gateway, 2))
            health = await ask(gateway.port, "/healthz")
            assert health["passed_over"] == 3
            assert await metric(gateway.port, "tick_gateway_lines_passed_over_total") == 3
            told = await gateway.stop()
    (line,) = [line for line in told.splitlines() if "passed over" in line]
    assert re.fullmatch(r"a\.jsonl, line 1: not valid JSON: .*; it is passed over, as are others like it", line)


async def test_what_cannot_be_read_is_told_by_healthz(tmp_path: Path) -> None:
    """Whatever it is, the files beside it are followed."""
    folder = tmp_path / "segments"
    folder.mkdir()
    (folder / "a.jsonl.zst").write_bytes(gzip.compress(line_of(0)))
    size = (folder / "a.jsonl.zst").stat().st_size
    (folder / ".hidden.jsonl").write_bytes(line_of(7) + b"\n")
    with Writer(folder / "b.jsonl") as writer:
        writer.write(line_of(0))
        async with tail(folder) as gateway:
            health = await ask(gateway.port, "/healthz")
            assert (health["status"], health["unread"]) == ("degraded", {"files": 1, "bytes": size})
            (folder / "z.jsonl").symlink_to(folder / "z.jsonl")
            writer.write(line_of(1))
            await until(lambda: _tip_is(gateway, 1))

            async def told() -> bool:
                return bool((await ask(gateway.port, "/healthz"))["unread"] == {"files": 2, "bytes": size})

            await until(told)
            assert await metric(gateway.port, "tick_gateway_unread_files") == 2
            assert await metric(gateway.port, "tick_gateway_unread_bytes") == size
            (folder / "a.jsonl.zst").unlink()
            (folder / "z.jsonl").unlink()

            async def fine() -> bool:
                return bool((await ask(gateway.port, "/healthz"))["status"] == "ok")

            await until(fine)
            assert len((await ask(gateway.port, "/runs"))["runs"]) == 1


async def test_nobody_else_may_publish(tmp_path: Path) -> None:
    """Their ticks would move the tip past those of the directory, which were dropped then."""
    folder = tmp_path / "segments"
    folder.mkdir()
    with Writer(folder / "a.jsonl") as writer:
        writer.write(line_of(1))
        for data in (None, tmp_path / "history"):
            async with tail(folder, data=data) as gateway:
                run = await first_run(gateway)
                for path in ("/publish", f"/publish?run={run}", f"/runs/{run}/end", "/ws/publish"):
                    method = "GET" if path == "/ws/publish" else "POST"
                    headers = UPGRADE if method == "GET" else {}
                    answer = sockets.ask(gateway.port, sockets.request(method, path, headers, b'{"t":900}'))
                    assert (answer.status, answer.json()["error"]) == (409, "tailing"), path
                    assert "--tail" in answer.json()["message"] and "write a file there" in answer.json()["message"]
                command = [sys.executable, "-m", "tick_gateway", "publish", f"127.0.0.1:{gateway.port}"]
                with Running(command, stdin=True) as publisher:
                    publisher.feed(['{"t":900}'])
                    publisher.close_stdin()
                    assert await asyncio.to_thread(publisher.wait) == 1
                    assert "follows a directory" in publisher.stderr.text
                assert await _tip_is(gateway, 1)


async def test_others_published_meanwhile(tmp_path: Path) -> None:
    """While the directory was not followed: no tick of the backend is lost by it."""
    folder = tmp_path / "segments"
    folder.mkdir()
    lines = [line_of(t, t) for t in range(30)]
    run = run_of("a", lines[0])
    with Writer(folder / "a.jsonl") as writer:
        writer.write(*lines[:10])
        data = tmp_path / "history"
        async with tail(folder, data=data) as gateway:
            await until(lambda: _tip_is(gateway, 9))
        async with RestartableGateway(data) as gateway:
            await post(gateway.port, [line_of(5, 99)], "other")
        async with tail(folder, data=data) as gateway:
            writer.write(*lines[10:20])
            await until(lambda: _tip_is(gateway, 19))
            known = [one["run"] for one in (await ask(gateway.port, "/runs"))["runs"]]
            assert known == [run, "other", f"{run}-2"]
            await gateway.kill()
            await gateway.start()
            writer.write(*lines[20:])
            await until(lambda: _tip_is(gateway, 29))
            assert (await range_of(gateway.port, run)) == (lines[:10], None)
            assert (await range_of(gateway.port, f"{run}-2")) == (lines[10:], None)


async def test_how_far_it_was_read_is_noted_again_when_the_disk_works_again(tmp_path: Path) -> None:
    """What it did not take meanwhile is a hole; the note goes on behind it."""
    resource = needs.module("resource")
    folder, note = tmp_path / "segments", tmp_path / "history" / ".tail.json"
    folder.mkdir()

    def noted() -> int:
        tip: int = json.loads(note.read_bytes())["runs"]["tip"]
        return tip

    t = 0
    with Writer(folder / "a.jsonl") as writer:
        async with tail(folder, data=tmp_path / "history") as gateway:
            assert gateway.process is not None
            writer.write(line_of(t))
            await until(lambda: _tip_is(gateway, 0))
            pid = gateway.process.process.pid
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            writer.write(line_of(1))
            await until(lambda: _degraded(gateway))
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            async with asyncio.timeout(PATIENCE):
                while noted() < 2:
                    t = t + 1 if t else 2
                    writer.write(line_of(t))
                    await asyncio.sleep(0.1)  # until the disk is tried again


async def _degraded(gateway: RestartableGateway) -> bool:
    health = await ask(gateway.port, "/healthz")
    return bool(health["status"] == "degraded")


async def test_what_cannot_be_done_is_said_in_one_line(command: Command, tmp_path: Path) -> None:
    def refused(*options: str | Path) -> str:
        done = command("serve", "--port", "0", *options)
        assert done.code == 2 and done.err.count("\n") == 1, done
        return done.err

    file = tmp_path / "file"
    file.write_bytes(b"")
    assert "no directory" in refused("--tail", file)
    assert "one source at a time" in refused("--tail", tmp_path, "--stdin")
    assert "history is kept in" in refused("--tail", tmp_path, "--data", tmp_path)
    made_history.write(tmp_path / "own", {"A": range(3)})
    (tmp_path / "own" / ".lock").touch()
    assert "own is a history already: a gateway serves it with --data" in refused("--tail", tmp_path / "own")
    async with RestartableGateway(tmp_path / "history"):
        assert "in use by process" in refused("--tail", tmp_path / "later", "--data", tmp_path / "history")


async def test_the_banner_says_what_is_history(tmp_path: Path) -> None:
    for data, told in ((None, "history is read from the files"), (tmp_path / "history", "every tick is kept in")):
        async with tail(tmp_path / "later", data=data) as gateway:
            assert told in await gateway.stop()


async def test_a_large_backlog_that_appears_at_once(tmp_path: Path) -> None:
    """More than memory and the inbox hold: the thread waits, and nothing is dropped."""
    folder = tmp_path / "segments"
    lines = [line_of(t, t, 40) for t in range(30_000)]
    async with tail(folder, "--ring", "500", "--inbox", "200") as gateway:
        staged = tmp_path / "staged.jsonl.zst"
        staged.write_bytes(zstandard.compress(b"\n".join([*lines, b""])))
        folder.mkdir()
        staged.rename(folder / "a.jsonl.zst")
        await until(lambda: _tip_is(gateway, 29_999))
        assert (await range_of(gateway.port, run_of("a", lines[0]))) == (lines, None)
        health: dict[str, Any] = await ask(gateway.port, "/healthz")
        assert health["dropped"] == 0

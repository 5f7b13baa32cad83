"""What cannot be read of another program's files is told and counted, and is never taken for a success."""

from __future__ import annotations

import errno
import gzip
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.conftest import Command
from tests.support.backend import frame, line_of, run_of
from tests.support.gateway_process import GatewayProcess
from tests.support.recorded import stored
from tick_gateway.history.external.directory import FileGone, SourceDirectory
from tick_gateway.history.external.in_place import DirectoryScan, Volumes
from tick_gateway.history.external.source_file import SourceFile, Unread

MAX_TICK = 1 << 20
LINES = [line_of(t, t, 100, noise=True) for t in range(60)]
TEXT = b"\n".join([*LINES, b""])


def result(folder: Path, *, again: bool = False) -> tuple[list[int], Unread]:
    """The numbers that an import of a directory finds, and what it does not read; ``again``: where it is interrupted at
    every step."""
    directory = SourceDirectory(folder, MAX_TICK)
    ts: list[int] = []
    while events := directory.read() or directory.finish():
        for event in events:
            assert not isinstance(event, FileGone)
            ts += event.ts
        if again:
            note = directory.note()
            directory.close()
            directory = SourceDirectory(folder, MAX_TICK, note)
    directory.close()
    return ts, directory.unread(ended=True)


def made(**options: bool) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(TEXT)  # type: ignore[arg-type]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + (data[at + 1 :] if at + 1 else b"")


def windowed(log: int) -> bytes:
    """A frame that asks for a window of 2**log bytes."""
    text = TEXT[:400]
    return b"\x28\xb5\x2f\xfd\x00" + bytes([(log - 10) << 3]) + (len(text) << 3 | 1).to_bytes(3, "little") + text


GOOD = frame(*LINES)
SOME = frame(*LINES[:30])
SKIPPING = b"\x50\x2a\x4d\x18\xff\xff\xff\xff"
DICTIONARY = zstandard.train_dictionary(2048, [line_of(t, t, 50 + t % 9, noise=True) for t in range(500)])

FILES: dict[str, tuple[str, bytes, list[int], int]] = {
    # what it is: its name, its bytes, the ticks that are in it, and how many of its bytes are not read
    "whole": ("a.jsonl.zst", GOOD, [*range(60)], 0),
    "whole, plain": ("a.jsonl", TEXT, [*range(60)], 0),
    "whole but for its last line feed": ("a.jsonl", TEXT[:-1], [*range(60)], 0),
    "cut in a line": ("a.jsonl", TEXT[: TEXT.index(LINES[7]) + 20], [*range(7)], 20),
    "cut in its only line": ("a.jsonl", LINES[0][:9], [], 9),
    "cut in a frame": ("a.jsonl.zst", SOME[:-3] + b"", [*range(30)], 0),
    "cut in a block": ("a.jsonl.zst", frame(*LINES[:2])[:150], [0], 150 - len(frame(LINES[0], end=False))),
    "cut in its first block": ("a.jsonl.zst", GOOD[:30], [], 30),
    "cut in its first header": ("a.jsonl.zst", GOOD[:3], [], 3),
    "gzip": ("a.jsonl.zst", gzip.compress(TEXT), [], len(gzip.compress(TEXT))),
    "gzip, plain by its name": ("a.jsonl", gzip.compress(TEXT), [], len(gzip.compress(TEXT))),
    "zstd, plain by its name": ("a.jsonl", GOOD, [], len(GOOD)),
    "UTF-16": ("a.jsonl", TEXT.decode().encode("utf-16"), [], len(TEXT) * 2 + 2),
    "text": ("a.jsonl.zst", TEXT, [], len(TEXT)),
    "junk behind a good frame": ("a.jsonl.zst", GOOD + b"junk", [*range(60)], 4),
    "junk before a good frame": ("a.jsonl.zst", b"junk" + GOOD, [*range(60)], 4),
    "junk between good frames": ("a.jsonl.zst", SOME + b"junk" + frame(*LINES[30:]), [*range(60)], 4),
    "zeros behind a good frame": ("a.jsonl.zst", GOOD + bytes(4096), [*range(60)], 4096),
    "a skippable frame of 4 GiB, as it says": (
        "a.jsonl.zst", SOME + SKIPPING + frame(*LINES[30:]), [*range(30)], len(SKIPPING + frame(*LINES[30:]))
    ),
    "a window of 256 MiB": ("a.jsonl.zst", windowed(28), [], len(windowed(28))),
    "a window of 2 GiB, and a frame": ("a.jsonl.zst", windowed(31) + GOOD, [*range(60)], len(windowed(31))),
    "a dictionary": (
        "a.jsonl.zst", strange := zstandard.ZstdCompressor(dict_data=DICTIONARY).compress(TEXT), [], len(strange)
    ),
    "a checksum that does not match": (
        "a.jsonl.zst", refuted := flipped(made(write_checksum=True), -1), [], len(refuted)
    ),
}  # fmt: skip


@pytest.mark.parametrize("again", [False, True], ids=["at once", "interrupted at every step"])
@pytest.mark.parametrize("what", FILES)
def test_what_is_not_read_is_counted(tmp_path: Path, what: str, again: bool) -> None:
    name, data, ts, size = FILES[what]
    (tmp_path / name).write_bytes(data)
    (tmp_path / "b.jsonl").write_bytes(line_of(100) + b"\n")
    found, unread = result(tmp_path, again=again)
    broken = what == "cut in a frame"
    assert (found, unread) == ([*ts, 100], Unread(int(size > 0 or broken), size))


@pytest.mark.parametrize("what", FILES)
def test_what_is_found_is_read_again_in_place(tmp_path: Path, what: str) -> None:
    name, data, ts, _ = FILES[what]
    (tmp_path / name).write_bytes(data)
    (tmp_path / "b.jsonl").write_bytes(line_of(100) + b"\n")
    directory = SourceDirectory(tmp_path, MAX_TICK)
    runs = DirectoryScan(directory, Volumes(MAX_TICK)).runs
    directory.close()
    assert [t for run in runs.values() for entry in run.entries for t in entry.volume.read(entry).ts] == [*ts, 100]


@pytest.mark.parametrize(
    "what, told",
    {
        "whole": "",
        "cut in a line": "a.jsonl: its last line is not whole",
        "cut in a block": "a.jsonl.zst: the zstd frame that begins at byte 0 is not there to its end",
        "gzip": "a.jsonl.zst: byte 0 belongs to no zstd frame (it looks like gzip)",
        "gzip, plain by its name": "a.jsonl: it is gzip, not text",
        "text": "a.jsonl.zst: byte 0 belongs to no zstd frame (it looks like text)",
        "a window of 256 MiB": "a.jsonl.zst: byte 0 begins a zstd frame that asks for a window of 256 MiB "
        "(zstd --long), of which at most 128 are taken",
        "a dictionary": "a.jsonl.zst: byte 0 begins a zstd frame that asks for a dictionary",
        "a checksum that does not match": "a.jsonl.zst: bytes 0 to",
    }.items(),
)  # fmt: skip
def test_the_command_says_what_is_missing_and_ends_with_1(
    command: Command, tmp_path: Path, what: str, told: str
) -> None:
    name, data, ts, size = FILES[what]
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / name).write_bytes(data)
    history = tmp_path / "history"
    for imported in (len(ts), 0):
        done = command("import", tmp_path / "files", "--data", history)
        *warnings, summary = done.err.splitlines()
        assert done.out == "" and "Traceback" not in done.err
        assert summary.startswith(f"{imported} tick")
        if told:
            assert done.code == 1 and any(line.startswith(told) for line in warnings), done.err
            assert f"{size} bytes of 1 file not read" in summary
        else:
            assert (done.code, warnings) == (0, [])
    assert [t for _, t, _ in stored(history)] == ts


# ---- checksums ----


def checked(*rows: list[bytes], damaged: int | None = None) -> bytes:
    """Frames of lines with checksums, of which one is wrong."""
    parts = [frame(*lines, checksum=True, flush=False) for lines in rows]
    if damaged is not None:
        parts[damaged] = flipped(parts[damaged], -2)
    return b"".join(parts)


@pytest.mark.parametrize("size", [100, 20_000], ids=["small frames", "frames larger than a step"])
@pytest.mark.parametrize("damaged", range(3))
def test_a_frame_that_its_checksum_refutes_is_left_out_whole(tmp_path: Path, damaged: int, size: int) -> None:
    """By import and in place, the frames around it stay, and what is read in place later is what was found."""
    lines = [line_of(t, t, size, noise=True) for t in range(90)]
    rows = [lines[at : at + 30] for at in range(0, 90, 30)]
    data = checked(*rows, damaged=damaged)
    (tmp_path / "a.jsonl.zst").write_bytes(data)
    wanted = [t for at in range(3) for t in range(at * 30, at * 30 + 30) if at != damaged]
    for again in (False, True):
        ts, unread = result(tmp_path, again=again)
        assert (ts, unread) == (wanted, Unread(1, len(frame(*rows[damaged], checksum=True, flush=False))))
    directory = SourceDirectory(tmp_path, MAX_TICK)
    (run,) = DirectoryScan(directory, Volumes(MAX_TICK)).runs.values()
    directory.close()
    found: list[int] = []
    for entry in run.entries:
        block = entry.volume.read(entry)
        assert block.lines.split(b"\n")[:-1] == [lines[t] for t in block.ts]
        found += block.ts
    assert found == wanted


def test_a_line_over_two_frames_of_which_one_is_refuted(tmp_path: Path) -> None:
    text = TEXT[: len(TEXT) // 2]
    whole = text.rindex(b"\n", 0, len(text)) + 1
    first = zstandard.ZstdCompressor(write_checksum=True).compress(text)
    second = zstandard.ZstdCompressor(write_checksum=True).compress(TEXT[len(text) :])
    count = text[:whole].count(b"\n")
    for data, wanted in (
        (flipped(first, -1) + second, [*range(count + 1, 60)]),
        (first + flipped(second, -1), [*range(count)]),
    ):
        (tmp_path / "a.jsonl.zst").write_bytes(data)
        assert result(tmp_path)[0] == wanted


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_frame_that_is_cut_off_in_its_checksum_is_not_refuted(tmp_path: Path, cut: int) -> None:
    """A backend that was killed there, and began another frame behind it."""
    first = frame(*LINES[:30], checksum=True)
    (tmp_path / "a.jsonl.zst").write_bytes(first[:-cut] + frame(*LINES[30:], checksum=True))
    assert result(tmp_path)[0] == [*range(60)]


def test_what_a_backend_flushed_is_read_before_its_frame_ends(tmp_path: Path) -> None:
    """There is no checksum yet. One that turns out to be wrong refutes what was not read before it."""
    data = frame(*LINES[:10], checksum=True)
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(frame(*LINES[:10], end=False, checksum=True))
    directory = SourceDirectory(tmp_path, MAX_TICK, look_seconds=0)
    ts = [t for event in directory.read() if not isinstance(event, FileGone) for t in event.ts]
    assert ts == [*range(10)] and directory.unread() == Unread()
    path.write_bytes(flipped(data, -1) + frame(*LINES[10:20]))
    ts = [t for event in directory.read() if not isinstance(event, FileGone) for t in event.ts]
    assert ts == [*range(10, 20)] and directory.unread() == Unread(1, len(data))
    directory.close()


def test_lines_that_are_no_ticks_do_not_end_an_import(tmp_path: Path) -> None:
    """However many of them follow each other."""
    (tmp_path / "a.jsonl").write_bytes(LINES[0] + b"\n" + b"no tick at all\n" * 100_000 + LINES[1] + b"\n")
    (tmp_path / "b.jsonl").write_bytes(LINES[2] + b"\n")
    assert result(tmp_path) == ([0, 1, 2], Unread())


# ---- which files there are ----


def looped(folder: Path) -> None:
    (folder / "z.jsonl").symlink_to(folder / "z.jsonl")


def too_long(folder: Path) -> None:
    (folder / "z.jsonl").symlink_to("x" * 300)


def dangling(folder: Path) -> None:
    (folder / "z.jsonl").symlink_to(folder / "nothing")


def folder_(folder: Path) -> None:
    (folder / "z.jsonl").mkdir()


def link_to_itself(folder: Path) -> None:
    (folder / "z.jsonl").symlink_to(".")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "z.jsonl")


def link_to_a_device(folder: Path) -> None:
    (folder / "z.jsonl").symlink_to("/dev/zero")


def socket_(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(folder, os.O_RDONLY)  # names of sockets are short
        try:
            listening.bind(f"/proc/self/fd/{here}/z.jsonl")
        finally:
            os.close(here)


UNREADABLE = pytest.mark.parametrize(
    "spoil", [looped, too_long, dangling, folder_, link_to_itself, pipe, link_to_a_device, socket_]
)


@UNREADABLE
def test_what_cannot_be_looked_at_hides_nothing_else(
    command: Command, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(TEXT)
    (folder / "a-link.jsonl").symlink_to(tmp_path / "b.jsonl")
    (tmp_path / "b.jsonl").write_bytes(line_of(100) + b"\n")
    spoil(folder)
    assert result(folder) == ([100, *range(60)], Unread(1, 0))
    done = command("import", folder, "--data", tmp_path / "history")
    assert done.code == 1 and "Traceback" not in done.err
    warning, summary = done.err.splitlines()
    assert warning.startswith("z.jsonl cannot be read: ")
    assert summary.startswith("61 ticks of 2 runs; 0 bad lines; 0 bytes of 1 file not read")
    (folder / "z.jsonl").rename(tmp_path / "elsewhere")
    assert command("import", folder, "--data", tmp_path / "history").code == 0


@pytest.mark.parametrize("fault", [errno.EACCES, errno.EIO, errno.ELOOP])
def test_a_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int) -> None:
    """It is counted while it cannot, and read when it can."""
    (tmp_path / "a.jsonl").write_bytes(TEXT)
    (tmp_path / "b.jsonl").write_bytes(line_of(100) + b"\n")
    really = os.open

    def open_(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if Path(path).name == "a.jsonl":
            raise OSError(fault, os.strerror(fault))
        return really(path, flags, mode)

    directory = SourceDirectory(tmp_path, MAX_TICK, look_seconds=0)
    with monkeypatch.context() as broken:
        broken.setattr(os, "open", open_)
        ts = [t for event in directory.read() if not isinstance(event, FileGone) for t in event.ts]
        assert (ts, directory.unread()) == ([100], Unread(1, len(TEXT)))
    ts = [t for event in directory.read() if not isinstance(event, FileGone) for t in event.ts]
    assert (ts, directory.unread()) == ([*range(60)], Unread())
    directory.close()


def test_a_directory_that_cannot_be_read(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ticks are not there, and that is told."""

    def scandir(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "a.jsonl").write_bytes(TEXT)
    with monkeypatch.context() as broken:
        broken.setattr(os, "scandir", scandir)
        directory = SourceDirectory(tmp_path, MAX_TICK, look_seconds=0)
        assert (directory.read(), directory.unread()) == ([], Unread(1, 0))
    assert directory.read() and directory.unread() == Unread()
    directory.close()
    done = command("import", tmp_path / ("x" * 300), "--data", tmp_path / "history")
    assert done.code == 2 and done.err.count("\n") == 1


def test_hidden_files_are_not_read(tmp_path: Path) -> None:
    """What is being written, and takes its place by a name; and what an archive of another system has beside files."""
    folder = tmp_path
    directory = SourceDirectory(folder, MAX_TICK, look_seconds=0)
    (folder / "._a.jsonl").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
    (folder / ".#a.jsonl").symlink_to("somebody@somewhere.1234")
    sequences: list[tuple[str, int]] = []
    for count in range(10, 70, 10):
        (folder / ".a.jsonl").write_bytes(b"\n".join([*LINES[:count], b""]))
        while events := directory.read():
            sequences += [(event.run.id, t) for event in events if not isinstance(event, FileGone) for t in event.ts]
        (folder / ".a.jsonl").rename(folder / "a.jsonl")
        while events := directory.read():
            sequences += [(event.run.id, t) for event in events if not isinstance(event, FileGone) for t in event.ts]
    assert sequences == [(run_of("a", LINES[0]), t) for t in range(60)]
    assert directory.unread() == Unread() and directory.splitter.skipped == 0
    directory.close()


def test_what_is_passed_over_by_its_name_is_said(tmp_path: Path, command: Command) -> None:
    """Whoever compressed files with gzip, or named them otherwise, learns that nothing of them was taken, and why."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("b.ndjson", "a.jsonl.gz", ".hidden.jsonl", "c.JSONL"):
        (folder / name).write_bytes(TEXT)
    (folder / "sub").mkdir()
    (folder / "x\n.json").write_bytes(b"{}")
    words = (
        "6 entries are passed over by name",
        "a.jsonl.gz",
        "b.ndjson",
        ".hidden.jsonl",
        "c.JSONL",
        "sub/",
        "1 more",
    )
    accepted = "accepted: *.jsonl.zst and *.jsonl"
    done = command("import", folder, "--data", tmp_path / "history")
    assert done.code == 2 and done.err.count("\n") == 1
    assert "has no *.jsonl.zst and no *.jsonl at its top" in done.err
    assert accepted in done.err and sum(word in done.err for word in words) >= 6, done.err
    with GatewayProcess("serve", "--tail", str(folder)) as gateway:
        assert gateway.stderr.find("no files of ticks yet; 6 entries are passed over by name"), gateway.report()
    (folder / "d.jsonl").write_bytes(TEXT)
    done = command("import", folder, "--data", tmp_path / "history")
    told, summary = done.err.splitlines()
    assert done.code == 0 and summary.startswith("60 ticks of 1 run; 0 bad lines, in")
    assert told.startswith("6 entries are passed over by name: ") and accepted in told
    for path in folder.iterdir():
        if path.name != "d.jsonl":
            path.rmdir() if path.is_dir() else path.unlink()
    assert len(command("import", folder, "--data", tmp_path / "history").err.splitlines()) == 1


def test_names_cannot_forge_messages(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a\n2026 all is well.jsonl", "b\x1b[2J.jsonl.zst", "c\u2028.jsonl"):
        (tmp_path / name).write_bytes(b"no tick\n" * 10)
    (tmp_path / "d\r.jsonl").symlink_to("nothing")
    result(tmp_path)
    assert len(caplog.messages) == 4
    assert all(message.isprintable() for message in caplog.messages)
    assert any("a\\n2026" in message for message in caplog.messages)


def test_very_many_files_cost_no_more_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, looks = 400, 0

    def counting(file: SourceFile) -> int:
        nonlocal looks
        looks += 1
        return id(file) >> 4

    for number in range(count):
        (tmp_path / f"s{number}.jsonl").write_bytes(line_of(number) + b"\n")
    monkeypatch.setattr(SourceFile, "__hash__", counting)
    ts, _ = result(tmp_path)
    assert ts == [*range(count)]
    assert looks < 60 * count  # each file held against all others would be 400 looks


def test_much_white_space_in_a_line_hides_nothing(tmp_path: Path) -> None:
    """Longer than any tick, it is no reason to take what stands before it for the line, and in place it is read again
    as it was."""
    gap = b" " * (MAX_TICK + 5000)
    lines = [LINES[0] + gap + LINES[1], gap + LINES[2], LINES[3] + gap, gap + LINES[4] + gap, LINES[5]]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*lines, b""]))
    assert result(tmp_path) == ([2, 3, 4, 5], Unread())
    directory = SourceDirectory(tmp_path, MAX_TICK)
    (run,) = DirectoryScan(directory, Volumes(MAX_TICK)).runs.values()
    assert directory.splitter.skipped == 1
    directory.close()
    blocks = [entry.volume.read(entry) for entry in run.entries]
    assert [t for block in blocks for t in block.ts] == [2, 3, 4, 5]
    assert b"".join(block.lines for block in blocks).split() == b"\n".join(LINES[2:6]).split()


HALF = TEXT[: len(TEXT) // 2]


@pytest.mark.parametrize(
    "plain, packed, ts, unread",
    {
        "the copy is whole": (HALF, TEXT, 60, Unread()),
        "the file is whole": (TEXT, HALF, 60, Unread()),
        "both are": (TEXT, TEXT, 60, Unread()),
        "neither is": (HALF, HALF[:-20], 30, Unread(1, 0)),
    }.values(),
    ids=["the copy is whole", "the file is whole", "both are", "neither is"],
)
def test_of_a_file_and_a_half_copy_the_whole_one_is_read(
    tmp_path: Path, plain: bytes, packed: bytes, ts: int, unread: Unread
) -> None:
    """As an interrupted zstd leaves them, in either direction."""
    (tmp_path / "a.jsonl").write_bytes(plain)
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(packed))
    (tmp_path / "b.jsonl").write_bytes(line_of(100) + b"\n")
    found, left = result(tmp_path)
    assert sorted(found) == [*range(ts), 100]
    assert left.files == unread.files
    assert result(tmp_path, again=True) == (found, left)


def test_a_file_that_looks_like_a_copy_and_is_none(tmp_path: Path) -> None:
    other = b"\n".join([LINES[0], *(line_of(t, 1000 + t) for t in range(1, 60)), b""])
    (tmp_path / "a.jsonl").write_bytes(TEXT)
    (tmp_path / "a.jsonl.zst").write_bytes(data := zstandard.compress(other))
    assert result(tmp_path) == ([*range(60)], Unread(1, len(data)))


def test_files_of_one_line_without_an_end(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"s{number}.jsonl").write_bytes(LINES[number])
    assert result(tmp_path) == ([0, 1, 2, 3], Unread())


def test_a_file_that_is_removed_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    lines = [line_of(t, t, 20_000, noise=True) for t in range(100)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))  # its last line has no end
    (tmp_path / "b.jsonl").write_bytes(line_of(200) + b"\n")
    directory = SourceDirectory(tmp_path, MAX_TICK, look_seconds=0)
    ts: list[int] = []
    while events := directory.read() or directory.finish():
        ts += [t for event in events if not isinstance(event, FileGone) for t in event.ts]
        (tmp_path / "a.jsonl").unlink(missing_ok=True)
    assert ts == [*range(100), 200]
    assert directory.unread(ended=True) == Unread()
    directory.close()


def test_files_that_are_taken_away_before_they_are_read_are_missed(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"s{number}.jsonl").write_bytes(line_of(number) + b"\n")
    directory = SourceDirectory(tmp_path, MAX_TICK, look_seconds=0)
    ts: list[int] = []
    while events := directory.read() or directory.finish():
        ts += [t for event in events if not isinstance(event, FileGone) for t in event.ts]
        if ts == [0]:
            (tmp_path / "s1.jsonl").rename(tmp_path / "s9.jsonl")
            (tmp_path / "s2.jsonl").unlink()
    assert ts == [0, 3, 1] or ts == [0, 1, 3]
    assert directory.unread(ended=True) == Unread(1, 0) and directory.unread() == Unread()
    directory.close()

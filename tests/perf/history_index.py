"""What knowing a large history costs: ``python -m tests.perf.history_index --blocks 200000``.

Lays a history of one run with so many blocks into a directory of its own, below this one: segments without content, and
the index that a gateway would have written. Then a process starts with it as a gateway does, and says how long that
took and what memory, in all and for each block; and for each kind of look-up the longest that it held up the loop, over
many at random places: first with the index in the memory of the system, then with it dropped from there, and from the
pages of the gateway, before each. A minute for 200,000 blocks.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.history import block_index
from tick_gateway.history.archive import Archive
from tick_gateway.history.format.segment import TAIL_BYTES, Footer
from tick_gateway.history.local.index import save_index
from tick_gateway.history.local.opening import open_directory
from tick_gateway.history.local.run import LocalRun
from tick_gateway.history.local.segment_file import Segment, segment_name
from tick_gateway.history.local.segment_index import index_paths
from tick_gateway.history.restore_bus import restore
from tick_gateway.history.stored_block import Entry
from tick_gateway.model.view import View
from tick_gateway.reading.extents import Extents
from tick_gateway.reading.start_position import BackwardSearch

TICKS = 512  # a block
AT = 1_700_000_000_000  # ms since the epoch
RUN = "R"
SEGMENT_BYTES = 64 << 20
LOOKS = 300
COLD_LOOKS = 40
ARGUMENTS = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
ARGUMENTS.add_argument("--blocks", type=int, default=200_000)
ARGUMENTS.add_argument("--start", type=Path, help=argparse.SUPPRESS)
ARGUMENTS.add_argument("--heap", action="store_true", help=argparse.SUPPRESS)


# ---- the history ----


def entries(folder: Path, blocks: int, random: Random) -> Iterator[Entry]:
    """Blocks of files of some 64 MB; some ticks are missing now and then."""
    segment, offset, ordinal = Segment(folder / segment_name(0)), 0, 0
    for number in range(blocks):
        first, frame, footer = number * TICKS, random.randint(60_000, 80_000), random.randint(600, 900)
        if offset > SEGMENT_BYTES:
            segment, offset = Segment(folder / segment_name(first)), 0
            ordinal += random.random() < 0.01
        yield Entry(
            segment, offset, footer, ordinal=ordinal, first=first, last=first + TICKS - 1, first_at=AT + first,
            last_at=AT + first + TICKS - 1, count=TICKS, step=1, size=random.randint(510_000, 530_000), frame=frame,
            crc=random.getrandbits(32),
        )  # fmt: skip
        offset, ordinal = offset + frame + footer, ordinal + TICKS


def lay(directory: Path, blocks: int) -> None:
    """A run of so many blocks, by its index; nothing is in its segments but what ends each."""
    folder = directory / RUN
    folder.mkdir()
    run = LocalRun(RUN, 0, AT, 0, directory=folder)
    for entry in entries(folder, blocks, Random(1)):
        segment = entry.volume
        assert isinstance(segment, Segment)
        if not run.segments or run.segments[-1] is not segment:
            run.segments.append(segment)
        run.entries.append(entry)
        segment.size, segment.sealed = entry.offset + entry.frame + entry.footer, True
    run.know(blocks * TICKS * 2, blocks * TICKS - 1)  # its end is lost: nothing is read into memory at the start
    tail = Footer(RUN, 0, AT, 0, 0, 0, 0, 0, 0).pack()[-TAIL_BYTES:]
    for segment in run.segments:
        with segment.path.open("wb") as file:
            file.seek(segment.size - len(tail))
            file.write(tail)
    save_index(run)
    for path in index_paths(folder):
        with path.open("rb") as file:
            os.fsync(file)


def forget(directory: Path) -> None:
    """Drop the index from the system's memory, and from ours."""
    for path in index_paths(directory / RUN):
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    cache = block_index._cache
    cache.forget([records for records, _ in cache._pages])


# ---- a start, and looking around ----


def start(directory: Path) -> tuple[TickBus, Archive]:
    found = open_directory(directory)
    assert not found.damage
    bus, archive = TickBus(), Archive()
    restore(bus, archive, found.runs, {})
    return bus, archive


def peak() -> int:
    """The most memory that this process had, bytes. (What ``resource`` tells begins with the parent's.)"""
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def heap(directory: Path) -> None:
    """Print the bytes of Python's heap that a history takes, and took at the most."""
    tracemalloc.start()
    kept = start(directory)
    gc.collect()
    print(json.dumps(tracemalloc.get_traced_memory()))
    del kept


def took(look: Callable[[int], object], number: int, clock: Callable[[], float]) -> float:
    """How long the loop is held up by it, ms."""
    began = clock()
    look(number)
    return (clock() - began) * 1000


def look_around(directory: Path) -> None:
    """Start, and print what it took; then each kind of look-up."""
    before, began = peak(), time.perf_counter()
    bus, archive = start(directory)
    seconds = time.perf_counter() - began
    print(f"  started in {seconds:.2f} s; {peak() / 1e6:.0f} MB at the most, {before / 1e6:.0f} MB without a history")
    run, history = bus.runs[RUN], archive.histories[RUN]
    extents = Extents(bus, archive)

    def back(count: int, view: View) -> object:
        return BackwardSearch(bus, archive, count, view, run).next_block()

    random = Random(2)
    numbers = [random.randrange(run.tip) for _ in range(LOOKS)]
    looks: dict[str, tuple[Callable[[int], object], list[int]]] = {
        "from_t": (lambda t: history.after(t), numbers),
        "since": (lambda t: history.received_since(AT + t), numbers),
        "tail": (lambda t: back(t, View()), numbers),
        "tail, every=1000": (lambda t: back(t // 1000, View(every=1000)), numbers),
        "range over all": (lambda t: extents.gaps(run, -1, run.tip), numbers[:20]),
        "next block": (lambda t: extents.next(run, t, high=run.tip, stored=True), numbers),
    }
    for name, (look, some) in looks.items():
        warm = sorted(took(look, number, time.thread_time) for number in some)
        cold: list[float] = []
        for number in some[:COLD_LOOKS]:
            forget(directory)
            cold.append(took(look, number, time.perf_counter))  # the disk's time, too
        cold.sort()
        print(
            f"  {name}: at the longest {warm[-1]:.2f} ms (mostly {warm[len(warm) // 2]:.2f}), "
            f"cold {cold[-1]:.2f} ms (mostly {cold[len(cold) // 2]:.2f})"
        )
    print(f"  {peak() / 1e6:.0f} MB after that")


def main() -> None:
    args = ARGUMENTS.parse_args()
    if args.start is not None:
        heap(args.start) if args.heap else look_around(args.start)
        return
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        lay(Path(name), args.blocks)
        command = [sys.executable, "-m", "tests.perf.history_index", "--start", name]
        held, most = json.loads(subprocess.run([*command, "--heap"], check=True, capture_output=True).stdout)
        print(f"{args.blocks} blocks: {held / args.blocks:.1f} bytes a block, {held / 1e6:.2f} MB; "
              f"{most / 1e6:.2f} MB at the most")  # fmt: skip
        sys.stdout.flush()
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

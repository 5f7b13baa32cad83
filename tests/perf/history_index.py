"""What knowing a large history costs the loop: ``python -m tests.perf.history_index --blocks 200000``.

Makes up the blocks of one run (nothing is written to disk), has them as a run's history, as after a start, and prints
bytes per block and the longest that each kind of look-up held up the loop, over many at random places. Less than a
minute.
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from tick_gateway.bus.ring import Run
from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.history.archive import Archive
from tick_gateway.history.block_index import Entry
from tick_gateway.history.local.segment_file import Segment
from tick_gateway.history.run_history import RunHistory
from tick_gateway.model.view import View
from tick_gateway.reading.extents import Extents
from tick_gateway.reading.start_position import BackwardSearch

TICKS = 512  # a block
AT = 1_700_000_000_000  # ms since the epoch
LOOKS = 300
ARGUMENTS = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
ARGUMENTS.add_argument("--blocks", type=int, default=200_000)


def entries(blocks: int, random: Random) -> Iterator[Entry]:
    """Blocks of files of some 64 MB; some ticks are missing now and then."""
    volume, offset, ordinal = Segment(Path("0")), 0, 0
    for number in range(blocks):
        if offset > 64 << 20:
            volume, offset = Segment(Path(str(number))), 0
            ordinal += random.random() < 0.01
        first, frame, footer = number * TICKS, random.randint(60_000, 80_000), random.randint(600, 900)
        yield Entry(
            volume, offset, footer, ordinal=ordinal, first=first, last=first + TICKS - 1, first_at=AT + first,
            last_at=AT + first + TICKS - 1, count=TICKS, step=1, size=random.randint(510_000, 530_000), frame=frame,
            crc=random.getrandbits(32),
        )  # fmt: skip
        offset, ordinal = offset + frame + footer, ordinal + TICKS


def longest(look: Callable[[int], object], numbers: list[int]) -> float:
    """The longest of some look-ups, in ms of this thread's own time."""
    worst = 0.0
    for number in numbers:
        began = time.thread_time()
        look(number)
        worst = max(worst, time.thread_time() - began)
    return worst * 1000


def main() -> None:
    args = ARGUMENTS.parse_args()
    random = Random(1)
    run = Run("R", 0, 0, AT)
    run.tip = run.shown = run.evicted = args.blocks * TICKS - 1
    tracemalloc.start()
    began = time.perf_counter()
    history = RunHistory(run, entries(args.blocks, random))
    took = time.perf_counter() - began
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"{args.blocks} blocks: {held / args.blocks:.0f} bytes a block, {held / 1e6:.1f} MB; made in {took:.1f} s")

    bus, archive = TickBus(), Archive()
    bus.restore([run], [])
    archive.histories[run.id] = history
    extents = Extents(bus, archive)

    def back(count: int, view: View) -> object:
        return BackwardSearch(bus, archive, count, view, run).next_block()

    numbers = [random.randrange(run.tip) for _ in range(LOOKS)]
    looks: dict[str, tuple[Callable[[int], object], list[int]]] = {
        "from_t": (lambda t: history.after(t), numbers),
        "since": (lambda t: history.received_since(AT + t), numbers),
        "tail": (lambda t: back(t, View()), numbers),
        "tail, every=1000": (
            lambda t: back(t // 1000, View(every=1000)),
            numbers,
        ),
        "range over all": (lambda t: extents.gaps(run, -1, run.tip), numbers[:20]),
        "next block": (lambda t: extents.next(run, t, high=run.tip, stored=True), numbers),
    }
    for name, (look, some) in looks.items():
        print(f"  {name}: at the longest {longest(look, some):.2f} ms")


if __name__ == "__main__":
    main()

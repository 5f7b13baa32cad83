"""The backend that was there before the gateway: it writes ticks to segments, and knows of no reader.

Every DOWNSAMPLE-th tick becomes a line of JSON in a `.jsonl.zst` file, flushed at once; after SEGMENT_TICKS lines a new
file is begun. The gateway needs nothing more:

    python examples/original_backend.py segments & tick-gateway serve --tail segments
"""

import argparse
import json
import os
import random
import time
from pathlib import Path

import zstandard

DOWNSAMPLE = int(os.environ.get("DOWNSAMPLE", "1"))
SEGMENT_TICKS = int(os.environ.get("SEGMENT_TICKS", "1000"))


class Segments:
    """Writes the segments of one directory, on from the last one that is there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(path.name.split(".")[0].rpartition("_")[2]) for path in folder.glob("segment_*.jsonl.zst")]
        self.folder, self.number = folder, max(numbers, default=0)
        self.begin()

    def begin(self) -> None:
        self.file = (self.folder / f"segment_{self.number}.jsonl.zst").open("ab")
        self.writer = zstandard.ZstdCompressor().stream_writer(self.file)
        self.lines = 0

    def write_tick_record(self, tick: dict[str, object]) -> None:
        if self.lines == SEGMENT_TICKS:
            self.end()
            self.number += 1
            self.begin()
        self.writer.write(json.dumps(tick).encode() + b"\n")
        self.writer.flush()
        self.lines += 1

    def end(self) -> None:
        self.writer.flush(zstandard.FLUSH_FRAME)
        self.file.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ticks", type=int, default=0, help="end after so many; 0: never")
    parser.add_argument("--rate", type=float, default=20, help="ticks per second; 0: as fast as it can")
    options = parser.parse_args()
    segments = Segments(options.folder)
    agents = [{"id": i, "x": 50.0, "y": 50.0} for i in range(20)]
    t = 0
    while t < options.ticks or not options.ticks:
        for agent in agents:
            agent["x"] = round(agent["x"] + random.gauss(0, 1), 3)
            agent["y"] = round(agent["y"] + random.gauss(0, 1), 3)
        if t % DOWNSAMPLE == 0:
            segments.write_tick_record({"t": t, "agents": agents})
        t += 1
        if options.rate:
            time.sleep(1 / options.rate)
    segments.end()


if __name__ == "__main__":
    main()

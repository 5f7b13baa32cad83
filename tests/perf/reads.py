"""Every reading route and parameter pair against a model in plain Python: ``python -m tests.perf.reads``.

Gateways with ticks in memory, in open and closed blocks, dropped, evicted, deleted and restarted (``reads_worlds``) are
asked random requests (``reads_cases``); what they answer has to be what the model says (``reads_model``). Prints each
difference with the request that shows it, and in the end how many cases ran. ``--seed`` repeats a run exactly.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.simulation.reads_cases import some
from tests.simulation.reads_worlds import PLACES, place
from tests.support.async_client import close_all


async def world(name: str, seed: int, count: int) -> list[str]:
    """The differences of so many cases in one place."""
    with tempfile.TemporaryDirectory(prefix="reads-") as directory:
        async with place(name, seed, Path(directory)) as found:
            differences = [str(error) for error in await some(found, Random(f"cases {name} {seed}"), count)]
        close_all()
        return differences


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=400, help="cases in one world")
    parser.add_argument("--place", choices=list(PLACES), action="append", help="only there; may be repeated")
    parser.add_argument("--stop", type=int, default=10, help="end after so many differences")
    args = parser.parse_args()
    names, ran, told, began = args.place or list(PLACES), Counter[str](), 0, time.monotonic()
    number = 0
    while (done := sum(ran.values())) < args.cases and told < args.stop:
        name, seed = names[number % len(names)], args.seed + number // len(names)
        count = min(args.each, args.cases - done)
        for difference in asyncio.run(world(name, seed, count)):
            told += 1
            print(f"--- seed {seed}, {difference}", flush=True)
        ran[name] += count
        number += 1
    places = ", ".join(f"{name} {count}" for name, count in ran.items())
    print(f"{sum(ran.values())} cases ({places}), {told} differences, {time.monotonic() - began:.0f} s")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())

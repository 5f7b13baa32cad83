"""The memory that JSON of many small values takes at the door: ``python -m tests.perf.json_memory``.

Ticks and bodies as large as the gateway takes them, of values that a parser makes much larger objects of. Prints for
each shape the growth of the largest resident set, in MB, and the time. Linux.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tick_gateway.errors import BodyError, TickError
from tick_gateway.model.tick import parse
from tick_gateway.wire.record_splitter import Records

MAX_TICK = 8 << 20


def array(value: str, size: int) -> bytes:
    return b'{"t":1,"x":[' + (value.encode() + b",") * (size // (len(value) + 1)) + b"0]}"


def members(value: str, size: int) -> bytes:
    return b'{"t":1,' + (b'"x":' + value.encode() + b",") * (size // (len(value) + 5)) + b'"x":0}'


def text(value: str, size: int) -> bytes:
    return b'{"t":1,"x":"' + value.encode() * (size // len(value.encode())) + b'"}'


SHAPES: dict[str, Callable[[int], bytes]] = {
    "empty objects": lambda size: array("{}", size),
    "empty arrays": lambda size: array("[]", size),
    "objects": lambda size: array('{"a":1}', size),
    "chains of objects": lambda size: array('{"a":' * 400 + "1" + "}" * 400, size),
    "nested arrays": lambda size: array("[" * 400 + "]" * 400, size),
    "integers": lambda size: array("1", size),
    "floats": lambda size: array("1e1", size),
    "strings": lambda size: array('"ab"', size),
    "strings of commas": lambda size: array('",,"', size),
    "spaces": lambda size: array(" { } ", size),
    "members": lambda size: members("{}", size),
    "members of members": lambda size: members('{"a":{},"b":{}}', size),
    "one string": lambda size: text("x", size),
    "one string of brackets": lambda size: text("[", size),
    "one string of escapes": lambda size: text("\\n", size),
    "one string of line ends": lambda size: text("\u2028", size // 2),
    "a fault at the end": lambda size: array("{}", size) + b"x",
    "brackets alone": lambda size: b"[" * size,
    "objects in a row": lambda size: b"{}" * (size // 2),
}


def peak() -> float:
    """The largest resident set so far, MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def door(data: bytes) -> None:
    """As one tick: a line, a message, what a program hands over."""
    with suppress(TickError):
        parse(data, MAX_TICK)


def body(data: bytes) -> None:
    """As a body of JSON."""
    records = Records("application/json", MAX_TICK + 2, 8 * MAX_TICK)
    with suppress(BodyError, TickError):
        records.feed(b"[" + data + b"," + data + b"]")
        for _, line in records.end():
            parse(line, MAX_TICK)


def measure(size: int) -> None:
    for what, shape in SHAPES.items():
        data = shape(size)
        for way in (door, body):
            before, began = peak(), time.perf_counter()
            way(data)
            told = {"shape": what, "way": way.__name__, "grown": peak() - before}
            print(json.dumps(told | {"seconds": time.perf_counter() - began}), flush=True)


def grown(size: int) -> dict[tuple[str, str], float]:
    """How much more memory each shape took than all before it, MB, by its name and its way in."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.perf.json_memory", "--size", str(size), "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return {(one["shape"], one["way"]): one["grown"] for one in told}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=MAX_TICK - 100, help="of a tick, in bytes")
    parser.add_argument("--json", action="store_true", help="measure in this process, one shape after the other")
    arguments = parser.parse_args()
    if arguments.json:
        measure(arguments.size)
        return
    for (what, way), most in grown(arguments.size).items():
        print(f"{what:26} {way:6} {most:6.1f} MB more than those before it")


if __name__ == "__main__":
    main()

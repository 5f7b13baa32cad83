"""What it costs to mount the gateway on FastAPI: ``python -m tests.perf.asgi --clients 200 --rate 100``.

The same program twice, with the gateway on a port of its own and mounted under uvicorn; so many readers of each kind in
turn. Prints the CPU microseconds of the whole process, the simulation's own included, for each tick delivered. Linux;
loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from tests.perf.readers import KIND_NAMES, knock
from tests.support.gateway_process import ROOT, Running
from tick_gateway.bench.proc_stats import cpu_seconds

PROGRAM = """
import sys, threading, time
from fastapi import FastAPI
from tick_gateway import Gateway
import uvicorn

rate, size, way = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
gateway = Gateway(host="127.0.0.1", port=0)
app = FastAPI()

def simulate():
    for t in range(1 << 40):
        gateway.publish({"t": t, "u": t, "pad": "x" * size})
        time.sleep(1 / rate)

if way == "direct":
    gateway.start()
else:
    app.mount("/sim", gateway.asgi())
threading.Thread(target=simulate, daemon=True).start()
if way == "direct":
    print("running on", gateway.url, file=sys.stderr, flush=True)
    gateway.wait()
else:
    uvicorn.run(app, port=0, ws_per_message_deflate=False, timeout_graceful_shutdown=1)
"""
_TICK = os.sysconf("SC_CLK_TCK")


async def measure(process: Running, port: int, way: str, kind: str, clients: int, seconds: float) -> float:
    below = "" if way == "direct" else "/sim"
    readers = [await knock(port, kind, "tail=1", 0, below=below) for _ in range(clients)]
    await asyncio.gather(*(one.begun for one in readers))
    await asyncio.sleep(1)  # until all are live; what is measured begins now
    begun, had = cpu_seconds(process.process.pid), sum(one.next for one in readers)
    await asyncio.sleep(seconds)
    took, got = cpu_seconds(process.process.pid) - begun, sum(one.next for one in readers) - had
    for one in readers:
        one.close()
    return took / max(got, 1) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.py"
        program.write_text(PROGRAM)
        for way in ("direct", "mounted"):
            for kind in KIND_NAMES:
                command: list[str | Path] = [sys.executable, program, str(args.rate), str(args.size), way]
                with Running(command, env={"PYTHONPATH": str(ROOT)}) as process:
                    found = process.stderr.find(r"running on http://127\.0\.0\.1:(\d+)")
                    assert found is not None, process.report()
                    each = asyncio.run(measure(process, int(found[1]), way, kind, args.clients, args.seconds))
                    print(f"{way:10} {kind:7} {each:7.2f} us a tick delivered", flush=True)


if __name__ == "__main__":
    main()

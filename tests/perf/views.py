"""What distinct views cost: ``python -m tests.perf.views --clients 1000 --views 32``.

A gateway process, a publisher, and readers of all streaming transports, plain and compressed, over so many views.
Prints from the gateway's own counters how often a tick was projected and how often it was framed or compressed.
Loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import re
import selectors
import socket
import threading
import time
from urllib.request import urlopen

from tests.perf.compression import KIND, flock
from tests.perf.delivery import publish
from tests.perf.gateway import gateway
from tests.perf.readers import KINDS


def counters(port: int) -> dict[str, float]:
    """The gateway's counters of what it made."""
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    names = ("projections", "encodings", "ticks_published")
    return {name: float(re.search(rf"^tick_gateway_{name}_total (\S+)", text, re.M)[1]) for name in names}  # type: ignore[index]


def drain(sockets: list[socket.socket], seconds: float) -> None:
    """Read and drop what comes."""
    selector = selectors.DefaultSelector()
    for sock in sockets:
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in selector.select(0.1):
            key.fileobj.recv(1 << 20, socket.MSG_TRUNC)  # type: ignore[union-attr]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--views", type=int, default=32)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=8)
    args = parser.parse_args()
    with gateway() as (port, process):
        sockets: list[socket.socket] = []
        for index in range(args.clients):
            transport, header = list(KIND.values())[index % len(KIND)]
            path, upgrade = KINDS[transport]
            sock = socket.create_connection(("127.0.0.1", port))
            view = f"tail=0&fields=agents.x,m{index % args.views}"
            sock.sendall(f"GET {path}?{view} HTTP/1.1\r\nHost: localhost\r\n{upgrade}{header}\r\n".encode())
            sockets.append(sock)
        for sock in sockets:
            while b"\r\n\r\n" not in sock.recv(1 << 12, socket.MSG_PEEK):
                continue
        reader = threading.Thread(target=drain, args=(sockets, args.seconds + 1))
        reader.start()
        before = counters(port)
        cpu, seconds, _ = publish(port, args.rate, 0, args.seconds, process.pid, flock(herd=True, ticks=64))
        reader.join()
        after = counters(port)
    ticks = after["ticks_published"] - before["ticks_published"]
    made = {name: (after[name] - before[name]) / ticks for name in ("projections", "encodings")}
    print(
        f"{args.clients} readers, {args.views} views, {len(KIND)} ways to read: {made['projections']:.1f} projections "
        f"and {made['encodings']:.1f} encodings a tick, {cpu / seconds:.0%} of a core at {args.rate:g} ticks/s"
    )


if __name__ == "__main__":
    main()

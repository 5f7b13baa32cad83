"""Memory per idle connection: ``python -m tests.perf.idle_memory --clients 5000 --kind ws``.

A gateway process of its own, so many readers that get nothing but heartbeats, and the growth of the gateway's
resident set (``VmRSS``) per connection: once connected, and again after several heartbeats and pongs. Loopback only;
ends by itself.
"""

from __future__ import annotations

import argparse
import resource
import selectors
import socket
import time

from tests.perf.gateway import gateway
from tick_gateway.bench.proc_stats import resident

REQUESTS = {
    "ws": "GET /ws/stream?heartbeat={beat} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "ndjson": "GET /ndjson?heartbeat={beat} HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "sse": "GET /sse?heartbeat={beat} HTTP/1.1\r\nHost: localhost\r\n\r\n",
}
PONG = b"\x8a\x80\x00\x00\x00\x00"


def pump(selector: selectors.BaseSelector, seconds: float, pong: bool) -> int:
    """Read what comes for so long, answer pings, and return how many heartbeats were seen."""
    beats, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in selector.select(0.1):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            data = sock.recv(1 << 16)
            assert data, "the gateway closed an idle connection"
            if pong and data.endswith(b"\x89\x00"):
                sock.sendall(PONG)
            beats += 1
    return beats


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--kind", choices=sorted(REQUESTS), default="ws")
    parser.add_argument("--heartbeat", type=float, default=2)
    parser.add_argument("--ticks", type=int, default=1, help="ticks published before the readers come")
    args = parser.parse_args()
    limit = args.clients * 2 + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    with gateway("--stdin", stdin=True) as (port, process):
        assert process.stdin is not None
        process.stdin.write(b"".join(b'{"t":%d}\n' % t for t in range(args.ticks)))
        process.stdin.flush()
        selector = selectors.DefaultSelector()
        sockets = [connect(port, args.kind, args.heartbeat, selector) for _ in range(50)]  # warm: code paths, pools
        pump(selector, 1, args.kind == "ws")
        before = resident(process.pid)
        sockets += [connect(port, args.kind, args.heartbeat, selector) for _ in range(args.clients)]
        pump(selector, 1, args.kind == "ws")
        connected = resident(process.pid)
        beats = pump(selector, 4.5 * args.heartbeat, args.kind == "ws")
        after = resident(process.pid)
    print(
        f"{args.clients} idle {args.kind}: {(connected - before) / args.clients:.0f} bytes each once connected, "
        f"{(after - before) / args.clients:.0f} after {beats / len(sockets):.1f} heartbeats each"
    )


def connect(port: int, kind: str, beat: float, selector: selectors.BaseSelector) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(REQUESTS[kind].format(beat=f"{beat:g}").encode())
    head = sock.recv(4096)
    assert head.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200")), head
    selector.register(sock, selectors.EVENT_READ)
    return sock


if __name__ == "__main__":
    main()

"""What the tests of bad input share: what is true, and ways to go away in the middle of a request."""

from __future__ import annotations

from tests.support.blocking_client import UPGRADE, Follower, Peer, ask, request
from tests.support.frames import PING, frame
from tests.support.gateway_process import GatewayProcess

STEAL = '{"t":9007199254740991,"stolen":true}'
"""A tick that nobody may get to read: it comes in where none may come in."""


class Bystander:
    """The gateway, the reader that is connected all along, and the good ticks that it has to have."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway, self.port, self.pid = gateway, gateway.port, gateway.process.pid
        self.follower = Follower(gateway.port)
        self.expected: list[bytes] = []
        self.run = 0
        self._t = -1

    def ticks(self, count: int = 1) -> list[bytes]:
        """Good ticks that nobody has published yet. Who takes them publishes them, in order."""
        found = []
        for _ in range(count):
            self._t += 1
            found.append(b'{"t":%d,"good":true}' % self._t)
        self.expected += found
        return found

    def lines(self, count: int = 1) -> bytes:
        return b"".join(tick + b"\n" for tick in self.ticks(count))

    def post(self, body: bytes) -> bytes:
        return request("POST", "/publish", {"Content-Type": "application/x-ndjson"}, body)

    def check(self) -> None:
        """The gateway takes a tick, and the reader gets it, and has everything before it."""
        answer = ask(self.port, self.post(self.lines()))
        assert answer.status == 200 and answer.json()["accepted"] == 1, answer
        self.follower.wait_for(self.expected)

    def new_run(self) -> None:
        """Begin a run in which nothing else was published."""
        self.run += 1
        self._t = -1
        tick = self.ticks()[0]
        answer = ask(self.port, request("POST", "/publish", {"Tick-Run": f"bystander-{self.run}"}, tick))
        assert answer.json()["accepted"] == 1, answer


def vanish(peer: Peer) -> None:
    peer.reset()


def hang_up(peer: Peer) -> None:
    peer.close()


def fall_silent(peer: Peer) -> None:
    """Says that nothing more comes; the gateway closes its side too."""
    peer.half_close().rest()
    peer.close()


HANDSHAKES = {
    "ndjson": request("GET", "/ndjson?tail=1"),
    "sse": request("GET", "/sse", {"Last-Event-ID": "bystander:1"}),
    "websocket": request("GET", "/ws/stream?hello=1", UPGRADE) + frame(PING, b"x"),
    "poll": request("GET", "/poll?timeout=5"),
    "publish": request("POST", "/publish", {"Tick-Run": "x"}, b'{"t":5}\n'),
    "publish by websocket": request("GET", "/ws/publish", UPGRADE),
}

"""How a gateway ends, and what its readers are told: a finished simulation, a drain and a crash tell themselves
apart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import needs
from tests.support.blocking_client import Follower, Frame, Peer, ask, port_of, request
from tests.support.frames import CLOSE, frame
from tests.support.gateway_process import LISTENING, PATIENCE, GatewayProcess, Running, publish
from tests.support.history_files import lines as stored_lines
from tick_gateway import Gateway
from tick_gateway.model.notices import REASONS, End
from tick_gateway.model.tick import Position

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


# ---- what is told ----


class Readers:
    """One of each kind on a gateway in this process."""

    def __init__(self, gateway: Gateway) -> None:
        port = port_of(gateway)
        gateway.publish({"t": 1}, run="a")
        self.lines = Peer(port).send(request("GET", "/ndjson?from_t=a:-1"))
        self.events = Peer(port).send(request("GET", "/sse?from_t=a:-1"))
        self.socket = Peer(port).open("/ws/stream?from_t=a:-1")
        self.bare = Peer(port).open("/ws/stream")
        for peer in (self.lines, self.events, self.socket, self.bare):
            peer.until(b'{"t":1}')
        # While the gateway ends, which waits for their answers to its close frame.
        pool = ThreadPoolExecutor()
        self.frames, self.bare_frames = (pool.submit(last_frames, peer) for peer in (self.socket, self.bare))
        pool.shutdown(wait=False)

    def check(self, reason: str, code: int) -> None:
        told = {"notice": "end", "reason": reason, "position": "a:1"}
        data = json.dumps(told, separators=(",", ":")).encode()
        assert data in self.lines.rest()
        assert b"event: end\ndata: %s\nid: a:1\n" % data in self.events.rest(), "EventSource may come back"
        frames = self.frames.result()
        assert frames[0].json() == told
        for closing in (frames[-1], self.bare_frames.result()[-1]):
            assert closing.code == code and reason.encode() in closing.payload
        for peer in (self.lines, self.events, self.socket, self.bare):
            peer.close()


def last_frames(peer: Peer) -> list[Frame]:
    """What a WebSocket is sent up to the close frame, with it; that is answered."""
    frames = [peer.frame()]
    while frames[-1].opcode != CLOSE:
        frames.append(peer.frame())
    peer.send(frame(CLOSE, frames[-1].payload))
    return frames


ERRORS: list[tuple[BaseException | None, str, int]] = [
    (None, "finished", 1000),
    (ValueError("a fault of the simulation"), "failed", 1001),
    (KeyboardInterrupt(), "shutdown", 1001),
    (SystemExit(0), "shutdown", 1001),
]


@pytest.mark.parametrize(("error", "reason", "code"), ERRORS, ids=lambda value: str(value) if value else None)
def test_a_with_that_ends(error: BaseException | None, reason: str, code: int) -> None:
    found: list[Readers] = []

    def simulate() -> None:
        with Gateway.in_thread(host="127.0.0.1", port=0) as gateway:
            found.append(Readers(gateway))
            if error is not None:
                raise error

    if error is None:
        simulate()
    else:
        with pytest.raises(type(error)):
            simulate()
    found[0].check(reason, code)


@pytest.mark.parametrize(("error", "reason", "code"), ERRORS[:3], ids=lambda value: str(value) if value else None)
async def test_an_async_with_that_ends(error: BaseException | None, reason: str, code: int) -> None:
    found: list[Readers] = []
    try:
        async with Gateway(host="127.0.0.1", port=0) as gateway:
            found.append(Readers(gateway))
            if error is not None:
                raise error
    except BaseException as raised:
        assert raised is error
    found[0].check(reason, code)


@pytest.mark.parametrize(("reason", "code"), [("finished", 1000), ("failed", 1001), ("shutdown", 1001)])
def test_a_gateway_that_is_closed(reason: Any, code: int) -> None:
    gateway = Gateway.in_thread(host="127.0.0.1", port=0)
    readers = Readers(gateway)
    gateway.close(reason)
    readers.check(reason, code)


def test_what_is_final_is_what_the_reader_asked_for() -> None:
    """A simulation that has finished may be run again, and a page that shows it goes on."""
    final = {reason for reason in REASONS if End(reason, Position("a", 1)).final}
    assert final == {"limit", "run"} and set(REASONS) == final | {"finished", "shutdown", "failed"}


SOURCE = """
import asyncio
from tick_gateway.cli.serve import run
from tick_gateway.errors import GatewayError
from tick_gateway.settings import Settings
from tick_gateway.sources.base import SourceTask

class Failing(SourceTask):
    alone = "has a source that fails"

    async def publish(self, runtime):
        runtime.bus.publish({"t": 1})
        while not runtime.fanout.registry.sessions:
            await asyncio.sleep(0.01)
        raise GatewayError("the source gave up")

run(Settings(host="127.0.0.1", port=0), Failing())
"""


def test_a_source_that_fails() -> None:
    with Running([sys.executable, "-c", SOURCE]) as process:
        found = process.stderr.find(LISTENING)
        assert found is not None, process.report()
        follower = Follower(int(found[1]), "/ndjson?hello=1&tail=1")
        assert process.wait() != 0
        assert follower.lines.wait(lambda lines: bool(lines) and '"reason":"failed"' in lines[-1]), follower.lines.text
        follower.close()
    assert "the source gave up" in process.stderr.text


@posix
def test_a_gateway_that_is_killed_says_nothing() -> None:
    with GatewayProcess("demo", "--rate", "100") as gateway:
        follower = Follower(gateway.port)
        assert follower.lines.wait(lambda lines: len(lines) > 3)
        gateway.process.kill()
        assert not follower.lines.wait(lambda lines: '"end"' in lines[-1])
        follower.close()
        gateway.process.wait()
        gateway.process.returncode = 0  # as it was meant to be


def test_cat_ends_with_a_simulation_that_has_finished() -> None:
    with Gateway.in_thread(host="127.0.0.1", port=0) as gateway:
        gateway.publish({"t": 1})
        with Running([sys.executable, "-m", "tick_gateway", "cat", gateway.url or ""]) as cat:
            assert cat.stdout.find('"t":1'), cat.report()
            gateway.close()
            assert cat.wait() == 0, cat.report()


# ---- signals ----


@contextmanager
def draining(number: signal.Signals, *options: str) -> Iterator[GatewayProcess]:
    """A gateway that was told to stop, and waits for a reader that does not read."""
    with GatewayProcess("serve", "--drain-timeout", "600", *options) as gateway:
        reader = Peer(gateway.port, receive_buffer=4096).send(request("GET", "/ndjson?from_t=a:-1&heartbeat=3600"))
        publish(gateway.url, [json.dumps({"t": t, "pad": "x" * 100_000}) for t in range(100)], run="a")
        gateway.process.send_signal(number)
        assert gateway.stderr.find("stopping.*Ctrl-C again"), gateway.report()
        assert gateway.process.poll() is None
        yield gateway
        reader.close()
        gateway.process.returncode = 0  # as it was meant to be


@posix
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path, first: signal.Signals) -> None:
    """Nothing is lost by it that was acknowledged."""
    with draining(first, "--data", str(tmp_path / "history")) as gateway:
        gateway.process.send_signal(signal.SIGINT)
        assert gateway.process.wait(PATIENCE) == -signal.SIGINT
        assert "Traceback" not in gateway.stderr.text
    with GatewayProcess("serve", "--data", str(tmp_path / "history")):
        pass
    assert [json.loads(line)["t"] for line in stored_lines(tmp_path / "history", "a")] == list(range(100))


@posix
def test_a_hangup_does_not_end_it() -> None:
    with GatewayProcess("serve") as gateway:
        gateway.process.send_signal(signal.SIGHUP)
        publish(gateway.url, ['{"t":1}'])
        assert ask(gateway.port, request("GET", "/healthz")).status == 200


@posix
def test_a_terminal_that_is_closed_does_not_take_it_along() -> None:
    """What it says at its end goes nowhere, and is no error."""
    fcntl, termios = needs.module("fcntl"), needs.module("termios")
    master, slave = os.openpty()
    command = [sys.executable, "-m", "tick_gateway", "serve", "--port", "0", "--host", "127.0.0.1"]

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=take_terminal
    )
    try:
        os.close(slave)
        said = ""
        while (found := LISTENING.search(said)) is None:
            said += os.read(master, 4096).decode()
        os.close(master)  # the kernel sends SIGHUP to whoever has it
        port = int(found[1])
        assert ask(port, request("GET", "/healthz")).status == 200
        publish(f"http://127.0.0.1:{port}", ['{"t":1}'])
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()

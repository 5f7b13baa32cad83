"""A network of the bench's own, where the machine gives one."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from tests.support.gateway_process import Running
from tick_gateway.bench.cases import PROFILES, Profile
from tick_gateway.bench.network import Direction, Namespace, Network, NetworkUnavailable, enter


@pytest.fixture
def network() -> Network:
    network = Network(PROFILES["lan"])
    try:
        with network:
            pass
    except NetworkUnavailable as problem:
        pytest.skip(f"this machine gives no network of one's own: {problem}")
    return network


def devices(pid: int) -> set[str]:
    """Names of the network devices that a process sees."""
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return {line.partition(":")[0].strip() for line in lines}


def test_it_is_there_and_then_gone(network: Network) -> None:
    before = Path("/proc/self/net/dev").read_text().count(":")
    with network:
        assert {"lo", "tgbench0"} <= devices(network.gateway.pid) and "tgbench1" in devices(network.readers.pid)
        assert network.by
        pids = network.gateway.pid, network.readers.pid
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert Path("/proc/self/net/dev").read_text().count(":") == before


def test_a_case_that_cannot_be_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with Running(
        [sys.executable, "-m", "tick_gateway", "bench", "--network", "wifi", "--transports", "sse", "--json", "-"]
    ) as process:
        assert process.wait() == 2, process.report()
    [told] = json.loads(process.stdout.text)["outcomes"]
    assert told["not_run"].startswith("the program ip is missing")
    assert "not run: the program ip is missing" in process.stderr.text
    assert process.stderr.lines[-1] == "tick-gateway bench: nothing was measured"


def test_ticks_travel_as_long_as_the_profile_says(network: Network) -> None:
    with Running(
        [sys.executable, "-m", "tick_gateway", "bench", "--network", "dsl", "--transports", "ndjson", "--clients", "3",
         "--seconds", "0.5", "--rate", "50", "--catch-up", "0", "--json", "-"]
    ) as process:  # fmt: skip
        assert process.wait() == 0, process.report()
    [told] = json.loads(process.stdout.text)["outcomes"]
    assert (told["lost"], told["repeated"], told["behind"]) == (0, 0, 0)
    delay = PROFILES["dsl"].delay * 1e3
    assert told["latency_ms"]["p50"] >= delay
    assert told["first_tick_ms"]["p50"] >= 4 * delay, "a handshake and a request, there and back"


def test_entering_a_namespace_that_is_gone() -> None:
    with pytest.raises(OSError):
        enter(Namespace(2**22 + 1, user=False))


# ---- the relay's link ----


def pair() -> tuple[int, int]:
    """A pipe in place of two devices: reading end, writing end."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    return reading, writing


def test_the_relay_delays_loses_and_holds_back(monkeypatch: pytest.MonkeyPatch) -> None:
    source, into = pair()
    outside, target = pair()
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    direction = Direction(source, target, Profile("x", 0.1, 0.0, 8000, ""), queued=2)
    for _ in range(3):
        os.write(into, b"x" * 100)
        direction.take()
    assert direction.due == pytest.approx(100.2), "a tenth of a second on the wire, and one under way"
    now = 100.19
    direction.give()
    with pytest.raises(BlockingIOError):
        os.read(outside, 1000)
    now = 100.31
    direction.give()
    assert len(os.read(outside, 1000)) == 200, "the third found the queue full"
    lossy = Direction(source, target, Profile("x", 0.0, 1.0, 1e9, ""), queued=10)
    os.write(into, b"x")
    lossy.take()
    assert lossy.due is None
    for number in (source, into, outside, target):
        os.close(number)

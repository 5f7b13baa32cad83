"""Addresses, and what becomes of a connection that is lost."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from tick_gateway.client.connection import Backoff, Reconnect, below, endpoint, lost_to, where
from tick_gateway.client.errors import BadUsage, Failure, Lost


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost:8000", "http://localhost:8000/ndjson"),
        ("127.0.0.1:1", "http://127.0.0.1:1/ndjson"),
        ("http://host/", "http://host/ndjson"),
        ("https://host/ticks/", "https://host/ticks/ndjson"),
        ("https://host/ticks/ndjson?key=1%202#x", "https://host/ticks/ndjson?key=1+2"),
        ("ws://host:81", "http://host:81/ndjson"),
        ("wss://host", "https://host/ndjson"),
        ("[::1]:8000", "http://[::1]:8000/ndjson"),
        ("localhost:8000/sse", "http://localhost:8000/ndjson"),
        ("ws://host:81/ws/stream", "http://host:81/ndjson"),
        ("https://host/ticks/publish", "https://host/ticks/ndjson"),
        ("https://host/stream", "https://host/stream/ndjson"),
    ],
)
def test_addresses(url: str, expected: str) -> None:
    assert str(endpoint(url, "/ndjson")) == expected


@pytest.mark.parametrize("url", ["", "http://", "ftp://host", "host:port", "host:99999", "http://[::1", ":8000"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BadUsage, match="is no address of a gateway"):
        endpoint(url, "/ndjson")


def test_who_is_talked_to_is_told_without_a_password() -> None:
    address = endpoint("http://name:secret@host:81/ticks/ndjson?token=secret", "/ndjson")
    assert where(address) == "http://host:81"
    assert below(address, "/ndjson").startswith(" (the gateway was looked for below /ticks; ")
    assert below(endpoint("host:81", "/ndjson"), "/ndjson") == ""


@pytest.mark.parametrize(
    ("address", "connected", "told"),
    [
        ("localhost", False, True),
        ("localhost", True, False),
        ("localhost:80", False, False),
        ("https://localhost", False, False),
    ],
)
def test_who_forgot_the_port_is_told_which_one_was_tried(address: str, connected: bool, told: bool) -> None:
    lost = lost_to(endpoint(address, "meta"), ConnectionRefusedError(111, "Connection refused"), connected)
    assert ("port 80, as none is named; a gateway's own is 8000" in str(lost)) is told


def test_waits_grow_to_a_cap_and_start_over() -> None:
    backoff = Backoff(0.2, 3.0)
    bounds = [0.2, 0.4, 0.8, 1.6, 3.0, 3.0]
    for bound in bounds:
        assert bound / 2 <= backoff.next() <= bound
    backoff.reset()
    assert backoff.next() <= 0.2


# ---- one connection after another ----


class Waits:
    """Stands for ``Backoff``: waits that take no time."""

    def __init__(self) -> None:
        self.was_reset = False

    def next(self) -> float:
        return 0.0

    def reset(self) -> None:
        self.was_reset = True


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    waits = Waits()
    monkeypatch.setattr("tick_gateway.client.connection.Backoff", lambda: waits)
    return waits


ADDRESS = endpoint("host:81", "/ndjson")


@pytest.mark.parametrize("error", [OSError(111, "Connection refused"), TimeoutError(), Lost("it is busy")])
async def test_the_first_connection_has_to_be_had(error: Exception, waits: Waits) -> None:
    with pytest.raises(Failure, match="cannot reach "):
        await Reconnect(ADDRESS, False, lambda line: None).after(error)


@pytest.mark.parametrize(("retry", "connected"), [(True, False), (False, True)])
async def test_what_is_lost_is_told_and_tried_again(retry: bool, connected: bool, waits: Waits) -> None:
    told: list[str] = []
    reconnect = Reconnect(ADDRESS, retry, told.append)
    reconnect.connected = connected
    await reconnect.after(OSError(111, "Connection refused"))
    assert told == ["http://host:81: Connection refused; trying again in 0.0 s"]
    assert not waits.was_reset
    reconnect.works()
    assert waits.was_reset


async def test_a_gateway_that_asks_to_wait_is_obeyed(waits: Waits, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await Reconnect(ADDRESS, True, lambda line: None).after(Lost("it is busy", 7.0))
    assert slept == [7.0]


async def test_a_certificate_that_is_not_accepted_ends_it_also_with_retry(waits: Waits) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = 10, "certificate has expired"
    reconnect = Reconnect(ADDRESS, True, lambda line: None)
    with pytest.raises(Failure, match="its certificate is not accepted: certificate has expired"):
        await reconnect.after(error)
    reconnect.connected = True  # it was accepted before: somebody is renewing it
    await reconnect.after(error)

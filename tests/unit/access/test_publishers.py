"""Who may publish: the token's bearer, or this machine alone; neither a web page nor a reverse proxy opens it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11, web
from aiohttp.test_utils import make_mocked_request

from tests.support.blocking_client import UPGRADE, Peer, ask, request
from tick_gateway import Gateway, Settings
from tick_gateway.access.publishers import host_name, is_loopback, is_near
from tick_gateway.errors import NotAllowed, OwnSource, Tailing
from tick_gateway.runtime import Runtime
from tick_gateway.sources.base import admit
from tick_gateway.sources.demo import Demo
from tick_gateway.sources.tail import Tail

TICK = b'{"t":1}'


def asking(
    headers: dict[str, str] | None = None, remote: str = "127.0.0.1", version: HttpVersion = HttpVersion11
) -> web.Request:
    transport = mock.Mock()
    transport.get_extra_info = {"peername": (remote, 50000)}.get
    named = {"Host": "localhost:8000"} | (headers or {})
    return make_mocked_request("POST", "/publish", headers=named, version=version, transport=transport)


def refusal(request_: web.Request, **settings: str) -> NotAllowed | None:
    try:
        admit(request_, Runtime(Settings(**settings)))  # type: ignore[arg-type]
    except NotAllowed as error:
        return error
    return None


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost", "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::1%lo"],
)
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "example.org", "localhost.example.org", "10.0.0.1", "0.0.0.0", "::", "::ffff:10.0.0.1", "fe80::1%eth0",
     "127.1", "0x7f000001", "2130706433", "127.0.0.1.example.org", "[::1]", "localhost\x00"],
)  # fmt: skip
def test_other_machines(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost", "localhost"),
        ("localhost:8000", "localhost"),
        ("127.0.0.1:8000", "127.0.0.1"),
        ("[::1]:8000", "::1"),
        ("[::1]", "::1"),
        ("", ""),
        (":8000", ""),
    ],
)
def test_the_name_in_host(header: str, name: str) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("remote", "headers", "near"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {"Host": "example.org"}, True),
        ("10.0.0.1", {}, False),
        ("", {}, False),
        ("127.0.0.1", {"X-Forwarded-For": "10.0.0.1"}, False),
        ("127.0.0.1", {"Forwarded": "for=10.0.0.1"}, False),
    ],
)
def test_who_seems_to_be_on_this_machine(remote: str, headers: dict[str, str], near: bool) -> None:
    assert is_near(asking(headers, remote)) == near


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "127.9.9.9", "[::1]:8000", "[::1]"])
@pytest.mark.parametrize("remote", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
def test_from_this_machine_no_token_is_needed(host: str, remote: str) -> None:
    assert refusal(asking({"Host": host}, remote)) is None


@pytest.mark.parametrize("remote", ["10.0.0.1", "192.168.1.7", "2001:db8::1", "::ffff:10.0.0.1", ""])
def test_from_elsewhere_one_is(remote: str) -> None:
    error = refusal(asking(remote=remote))
    assert error is not None and error.status == 403 and "publish_token" in str(error)


@pytest.mark.parametrize(
    "host", ["example.org", "gateway.local:8000", "10.0.0.5:8000", "[2001:db8::1]", "evil.localhost.org"]
)
def test_a_web_page_that_rebinds_its_name_is_refused(host: str) -> None:
    error = refusal(asking({"Host": host}))
    assert error is not None and error.status == 403 and "Host" in str(error)


def test_other_names_of_this_machine_can_be_set() -> None:
    for host in ("sim.lan:8000", "SIM.lan", "other"):
        assert refusal(asking({"Host": host}), publish_hosts="sim.lan, Other") is None
        assert refusal(asking({"Host": host}), publish_hosts="") is not None
    assert refusal(asking({"Host": "sim.lan"}, remote="10.0.0.1"), publish_hosts="sim.lan") is not None
    assert refusal(asking({"Host": ""}), publish_hosts="sim.lan,") is not None


@pytest.mark.parametrize(
    "name",
    ["Origin", "origin", "Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP",
     "x-forwarded-anything", "CF-Connecting-IP", "True-Client-IP"],
)  # fmt: skip
def test_traces_of_web_pages_and_proxies_are_refused(name: str) -> None:
    error = refusal(asking({name: "null"}))
    assert error is not None and error.status == 403 and name.lower() in str(error).lower()


def test_a_proxy_that_leaves_no_trace_speaks_http_1_0() -> None:
    error = refusal(asking(version=HttpVersion10))
    assert error is not None and error.status == 403
    assert "HTTP/1.0" in str(error) and "proxies" in str(error) and "publish_token" in str(error)


@pytest.mark.parametrize(
    ("authorization", "allowed"),
    [
        ("Bearer secret-é", True),
        ("bearer  secret-é ", True),
        ("Bearer secret", False),
        ("Bearer secret-é2", False),
        ("Bearer", False),
        ("Bearer ", False),
        ("Basic secret-é", False),
        ("secret-é", False),
        ("", False),
    ],
)
def test_the_token(authorization: str, allowed: bool) -> None:
    for remote in ("127.0.0.1", "10.0.0.1"):
        error = refusal(asking({"Authorization": authorization}, remote), publish_token="secret-é")
        assert (error is None) is allowed
        assert error is None or (error.status == 401 and "secret" not in str(error))


@pytest.mark.parametrize(
    ("authorization", "says"),
    [
        ("", "Bearer TOKEN with the gateway's token"),
        ("secret", "Bearer TOKEN, the word Bearer before the gateway's token"),
        ("Bearer wrong", "Bearer TOKEN; the one that came is not the gateway's token"),
    ],
)
def test_what_is_wrong_with_a_token_is_told(authorization: str, says: str) -> None:
    error = refusal(asking({"Authorization": authorization}, "127.0.0.1"), publish_token="secret")
    assert error is not None and str(error).endswith(says)


def test_with_the_token_it_matters_not_from_where() -> None:
    headers = {"Authorization": "Bearer x", "Origin": "https://example.org", "Host": "example.org", "Via": "1.1 proxy"}
    assert refusal(asking(headers, "10.0.0.1", HttpVersion10), publish_token="x") is None


def test_where_a_directory_is_followed_nobody_may_and_strangers_are_not_told_why(tmp_path: Path) -> None:
    settings = Settings(publish_token="x")
    runtime = Runtime(settings, source=Tail(settings, tail=tmp_path))
    with pytest.raises(Tailing):
        admit(asking({"Authorization": "Bearer x"}), runtime)
    with pytest.raises(NotAllowed):
        admit(asking(), runtime)


def test_where_a_source_runs_nobody_else_publishes() -> None:
    settings = Settings(publish_token="x")
    runtime = Runtime(settings, source=Demo(settings, rate=1.0, agents=1, size=0, seed=1))
    with pytest.raises(OwnSource, match="simulation of its own .* publish to one without a simulation") as caught:
        admit(asking({"Authorization": "Bearer x"}), runtime)
    assert (caught.value.status, caught.value.code) == (409, "own_source")
    with pytest.raises(NotAllowed):
        admit(asking(), runtime)


# ---- on the wire ----


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with Gateway.in_thread(port=0) as gateway:  # on all addresses, as by default
        assert gateway.url is not None
        yield int(gateway.url.rsplit(":", 1)[1].strip("/"))


def test_on_ipv4_and_ipv6(port: int) -> None:
    addresses = [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "localhost")]
    if sys.platform == "linux":  # elsewhere 127.0.0.1 alone is there
        addresses.append(("127.0.0.3", "127.0.0.3"))
    if socket.has_dualstack_ipv6():
        addresses.append(("::1", "[::1]"))
    for host, name in addresses:
        with Peer(port, host=host) as peer:
            headers = {"Host": f"{name}:{port}", "Tick-Run": "one"}
            assert peer.send(request("POST", "/publish", headers, TICK)).response().status == 200


@pytest.mark.parametrize("path", ["/publish", "/ws/publish", "/runs/one/end"])
@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({"Origin": "http://localhost"}, "1.1"),
        ({"Host": "example.org"}, "1.1"),
        ({"X-Forwarded-For": "127.0.0.1"}, "1.1"),
        ({}, "1.0"),
    ],
)
def test_every_way_in_is_closed(port: int, path: str, headers: dict[str, str], version: str) -> None:
    headers = headers | (UPGRADE if path == "/ws/publish" else {})
    method, body = ("GET", None) if path == "/ws/publish" else ("POST", TICK)
    answer = ask(port, request(method, path, headers, body, version))
    assert answer.status == 403 and answer.json()["error"] == "not_allowed"


def test_reading_needs_none_of_it(port: int) -> None:
    for headers in ({"Origin": "https://example.org"}, {"Host": "example.org"}, {"Via": "1.1 proxy"}):
        answer = ask(port, request("GET", "/meta", headers))
        assert answer.status == 200 and answer.headers["access-control-allow-origin"] == "*"


def test_the_token_on_the_wire() -> None:
    with Gateway.in_thread(port=0, host="127.0.0.1", publish_token="secret") as gateway:
        assert gateway.url is not None
        port = int(gateway.url.rsplit(":", 1)[1].strip("/"))
        wrong = ask(port, request("POST", "/publish", {"Authorization": "Bearer wrong"}, TICK))
        assert wrong.status == 401 and wrong.headers["www-authenticate"] == "Bearer"
        for value in ("", "Bearer", "Bearer \udcff", "secret"):
            assert ask(port, request("POST", "/publish", {"Authorization": value}, TICK)).status == 401
        assert ask(port, request("POST", "/publish", {}, TICK)).status == 401
        right = {"Authorization": "Bearer secret"}
        assert ask(port, request("POST", "/publish", right, TICK)).json()["accepted"] == 1
        with Peer(port) as peer:
            assert peer.send(request("GET", "/ws/publish", UPGRADE)).response().status == 401
        with Peer(port) as peer:
            peer.open("/ws/publish", right)
        assert ask(port, request("GET", "/latest")).body == TICK  # reading is open


def test_publishing_over_the_network_can_be_switched_off() -> None:
    """Whatever token there is; the program itself still publishes, and ends runs."""
    right = {"Authorization": "Bearer secret"}
    with Gateway.in_thread(port=0, host="127.0.0.1", publish_token="secret", publish_network=False) as gateway:
        port = int((gateway.url or "").rsplit(":", 1)[1].strip("/"))
        gateway.publish({"t": 1}, run="one")
        for method, path in (("POST", "/publish"), ("GET", "/ws/publish"), ("POST", "/runs/one/end")):
            headers = right | (UPGRADE if path == "/ws/publish" else {})
            answer = ask(port, request(method, path, headers, TICK if method == "POST" else None))
            assert answer.status == 403 and answer.json()["error"] == "not_allowed"
            assert "setting publish_network" in answer.json()["message"]
        assert ask(port, request("GET", "/latest")).body == TICK
        gateway.end_run()

"""Listening: which socket, what is said of one that cannot be had, and what stays out of the log."""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import warnings

import pytest
from aiohttp import web
from aiohttp.http import HttpProcessingError

from tick_gateway.errors import SettingError
from tick_gateway.http.listen import UNREAD_MS, limit_unsent, log, loop_factory, open_socket, url
from tick_gateway.settings import Settings


def settings(host: str = "127.0.0.1", port: int = 0) -> Settings:
    return Settings(host=host, port=port, backlog=7)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", ""])
def test_a_socket_listens_on_a_port_that_the_system_picks(host: str) -> None:
    with open_socket(settings(host)) as sock:
        port = sock.getsockname()[1]
        assert port
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            pass


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_no_host_is_every_address_of_both_families() -> None:
    with open_socket(settings("")) as sock, socket.create_connection(("::1", sock.getsockname()[1]), timeout=10):
        assert sock.family == socket.AF_INET6


def refused(host: str = "127.0.0.1", port: int = 0) -> SettingError:
    with pytest.raises(SettingError) as error:
        open_socket(settings(host, port)).close()
    return error.value


def test_a_port_that_is_taken_is_told_with_who_has_it_and_with_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = refused(port=port)
    assert error.name == "port"
    assert f"cannot listen on 127.0.0.1, port {port}: address already in use" in error.problem
    assert f"take another, such as {port % 65535 + 1}, or 0 for any that is free" in error.problem
    if sys.platform == "linux":
        assert f" by process {os.getpid()} (" in error.problem


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who has a port")
def test_looking_for_who_has_a_port_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        assert f"by process {os.getpid()} " in str(refused(port=taken.getsockname()[1]))
        gc.collect()
    assert [str(warning.message) for warning in told] == []


@pytest.mark.parametrize("host", ["no.such.host.invalid", "http://127.0.0.1", "192.0.2.1", "x" * 70, "a..b"])
def test_a_host_that_is_none_of_this_machine(host: str) -> None:
    error = refused(host)
    assert error.name == "host"
    assert "accepted: a name or an address of this machine" in error.problem or "is no host name" in error.problem
    assert "Traceback" not in error.problem and len(error.problem) < 300


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("", "http://127.0.0.1:8000/"),
        ("0.0.0.0", "http://127.0.0.1:8000/"),
        ("::", "http://127.0.0.1:8000/"),
        ("::1", "http://[::1]:8000/"),
        ("example.org", "http://example.org:8000/"),
    ],
)
def test_where_it_is_reached_from_this_machine(host: str, expected: str) -> None:
    assert url(settings(host), 8000) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has both")
def test_accepted_sockets_inherit_what_bounds_the_unsent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        limit_unsent(server)
        with socket.create_connection(server.getsockname()):
            accepted, _ = server.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNREAD_MS
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 256 * 1024


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (HttpProcessingError(code=400, message="nonsense"), False),
        (web.RequestPayloadError(), False),
        (ConnectionResetError(), False),
        (ZeroDivisionError(), True),
        (None, True),
    ],
)
def test_what_clients_do_wrong_is_not_logged(
    error: Exception | None, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger=log.name):
        log.error("it failed", exc_info=error)
    assert ("it failed" in caplog.messages) == logged


def test_a_loop_can_be_made() -> None:
    loop = loop_factory()()
    try:
        loop.run_until_complete(loop.create_task(done()))
    finally:
        loop.close()


async def done() -> None:
    pass

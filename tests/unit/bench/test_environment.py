"""The gateway that is measured: found at an address, or started and ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.bench_outcomes import scenario
from tick_gateway.bench import proc_stats as proc
from tick_gateway.bench.environment import OwnGateway, target_of
from tick_gateway.bench.scenario import BenchError

META = b'{"transports":{},"run":"r","rate":0}'


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[str]:
    """The address of somebody who answers everything so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize("form", ["{}", "http://{}", "http://{}/", "http://{}/sim/"])
def test_a_gateway_at_an_address(form: str) -> None:
    with answering(META) as address:
        target = target_of(scenario(url=form.format(address), pid=7))
    port = int(address.rpartition(":")[2])
    assert target.readers == target.publisher and target.readers[1] == ("127.0.0.1", port)
    assert (target.host, target.pid, target.tls) == (address, 7, None)
    assert target.base == ("/sim" if "sim" in form else "")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 404, "answers 404 where a gateway has its /meta"),
        (b"<html>", 200, "answers, but is no tick-gateway"),
        (b'{"transports":5}', 200, "answers, but is no tick-gateway"),
        (META.replace(b'"rate":0', b'"rate":9.5'), 200, "ticks were published to .* within the last ten seconds"),
    ],
)
def test_what_is_no_gateway_to_measure(body: bytes, status: int, words: str) -> None:
    with answering(body, status) as address, pytest.raises(BenchError, match=f"^--url: .*{words}"):
        target_of(scenario(url=address))


def test_a_run_of_the_benchs_own_is_no_publisher() -> None:
    with answering(META.replace(b'"r"', b'"bench-7"').replace(b'"rate":0', b'"rate":9.5')) as address:
        assert target_of(scenario(url=address)).host == address


@pytest.mark.parametrize("url", ["http://", "ftp://host", "http://host:port", "http://host.invalid"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BenchError, match="--url: "):
        target_of(scenario(url=url))


def test_one_of_its_own_is_there_and_then_gone() -> None:
    with OwnGateway(scenario(patience=60.0), None) as target:
        found = target_of(scenario(url=target.host, patience=60.0))
        assert found.readers[1][1] == target.readers[1][1] and target.pid is not None
        assert not proc.available() or proc.alive(target.pid)
    assert not proc.available() or not proc.alive(target.pid)


def test_one_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tick_gateway.bench.environment.sys.executable", "/bin/false")
    with pytest.raises(BenchError, match="the gateway does not start"), OwnGateway(scenario(), None):
        pass

"""``tick-gateway cat`` and ``tick-gateway publish``, with the real gateway."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socketserver
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import Command
from tick_gateway import Gateway

from ...support import tls
from ...support.blocking_client import port_of
from ...support.cutting_proxy import Network
from ...support.gateway_process import PATIENCE, ROOT, GatewayProcess, Running, free_port, publish

NO_GATEWAYS = {
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", "what answers there is no HTTP"),
    "an endless line": (b"HTTP/1.1 200 " + b"x" * 100_000, "what answers there is no HTTP"),
    "a redirect": (b"HTTP/1.1 302 Found\r\nLocation: /\r\nConnection: close\r\n\r\n", "redirects without end"),
    "a broken answer": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 99\r\n\r\n<html>", "answered 404"),
}


@pytest.mark.parametrize("name", NO_GATEWAYS)
@pytest.mark.parametrize("asking", ["cat", "publish", "bench"])
def test_what_is_no_gateway_is_told_in_one_line(command: Command, asking: str, name: str) -> None:
    answer, words = NO_GATEWAYS[name]

    class Say(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while self.rfile.readline() not in (b"\r\n", b""):
                    pass
                self.wfile.write(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Say) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        ended = command(asking, *(["--url", url] if asking == "bench" else [url]), stdin='{"t":0}\n')
        server.shutdown()
    assert ended.out == "" and len(ended.err.splitlines()) == 1, ended
    assert ended.code == (2 if asking == "bench" else 1)
    if asking != "bench":
        assert words in ended.err


# ---- cat ----


def cat(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tick_gateway", "cat", *arguments]


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command with pipes that nobody reads unless the test does; it ends with the test, however that ends."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    with subprocess.Popen(cat(*arguments), cwd=ROOT, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_of(numbers: Iterable[int]) -> list[str]:
    return [f'{{"t":{t}, "x":{{"y": {t}.50}}, "text":"ü{"x" * (t % 50)}"}}' for t in numbers]


def test_cat_writes_every_tick_byte_for_byte_through_a_network_that_fails() -> None:
    lines = lines_of(range(3000))
    cuts = sorted(random.Random(1).sample(range(1000, 250_000), 12))
    with GatewayProcess("serve") as gateway, Network(gateway.port) as network:
        proxy = network.proxy(cuts)
        publish(gateway.url, lines[:1000], run="a")
        with Running(cat(proxy.url, "--from", "a:-1", "--limit", "4000")) as reading:
            for at in range(1000, 3000, 100):
                publish(gateway.url, lines[at : at + 100], run="a")
            publish(gateway.url, lines[:1000], run="b")
            code = reading.wait()
        assert code == 0, reading.report()
        assert reading.stdout.lines == lines + lines[:1000]
        assert proxy.cut > 5
        notices = [json.loads(line) for line in reading.stderr.lines if line.startswith("{")]
        assert notices == [{"notice": "reset", "run": "b", "old": "a", "complete": True}]
        assert "Traceback" not in reading.stderr.text


def test_cat_passes_views_on_and_shows_ticks_at_once() -> None:
    with GatewayProcess("serve") as gateway:
        publish(gateway.url, lines_of(range(5)))
        options = ["--from", "-1", "--fields", "x.y", "--every", "2", "--stamp"]
        with Running(cat(gateway.url, *options)) as reading:
            for last in (4, 6, 8):  # each is there while the stream goes on and stands still
                if last > 4:
                    publish(gateway.url, lines_of([last]))
                assert len(reading.stdout.more(last // 2)) == 1, reading.report()
            shown = [json.loads(line) for line in reading.stdout.lines]
        assert [tick["data"] for tick in shown] == [{"t": t, "x": {"y": t + 0.5}} for t in range(0, 10, 2)]


def test_cat_goes_on_over_a_restart_of_the_gateway() -> None:
    with GatewayProcess("serve") as first, Network(first.port) as network:
        publish(first.url, lines_of(range(3)), run="a")
        with Running(cat(network.proxy().url, "--from", "a:-1")) as reading:
            assert reading.stdout.wait(lambda lines: len(lines) == 3), reading.report()
            assert first.terminate() == 0
            with GatewayProcess("serve") as second:
                network.target = second.port
                publish(second.url, lines_of(range(2)), run="b")
                assert reading.stdout.wait(lambda lines: len(lines) == 5), reading.report()
        assert reading.stdout.lines == [*lines_of(range(3)), *lines_of(range(2))]
        assert '"reason":"shutdown"' in reading.stderr.text and '"complete":false' in reading.stderr.text


def test_cat_tells_notices_where_they_stand() -> None:
    """Both outputs in one place: a gap before the ticks behind it, and a reset between two runs."""
    lines = lines_of(range(100))
    with GatewayProcess("serve", "--ring", "20") as gateway:
        publish(gateway.url, lines[:90], run="a")
        publish(gateway.url, lines[:10], run="b")
        command = [*cat(gateway.url, "--from", "a:5", "--limit", "20")]
        with Running(["sh", "-c", 'exec "$@" 2>&1', "sh", *command]) as reading:
            assert reading.wait() == 0, reading.report()
    gap, *rest = reading.stdout.lines
    assert json.loads(gap) == {"notice": "gap", "run": "a", "after": 5, "next": 80}
    reset = json.loads(rest.pop(10))
    assert (reset["notice"], reset["run"]) == ("reset", "b")
    assert rest == [*lines[80:90], *lines[:10]]


def test_cat_waits_for_a_run_that_a_restarted_gateway_does_not_know_yet() -> None:
    lines = lines_of(range(6))
    with (
        GatewayProcess("serve") as first,
        Network(first.port) as network,
        Running(cat(network.proxy().url, "--run", "a", "--retry")) as reading,
    ):
        assert reading.stderr.find("answered 404: no run a is known; see /runs; trying again"), reading.report()
        publish(first.url, lines[:1], run="a")
        assert reading.stdout.wait(lambda lines: len(lines) == 1), reading.report()
        publish(first.url, lines[1:3], run="a")
        assert reading.stdout.wait(lambda lines: len(lines) == 3), reading.report()
        assert first.terminate() == 0
        with GatewayProcess("serve") as second:
            told = len(reading.stderr.lines)
            network.target = second.port
            assert reading.stderr.wait(lambda lines: any("answered 404" in line for line in lines[told:]))
            publish(second.url, lines[3:], run="a")
            assert reading.stdout.wait(lambda lines: len(lines) == 6), reading.report()
            publish(second.url, lines[:1], run="b")  # ends the run
            assert reading.wait() == 0, reading.report()
    assert reading.stdout.lines == lines


TLS = [
    (["--cacert", "HERE"], "here", 0, ""),
    (["--insecure"], "here", 0, ""),
    (["--cacert", "ELSEWHERE"], "elsewhere", 1, "its certificate is not accepted: .*IP address mismatch"),
    (["--insecure"], "elsewhere", 0, ""),
    (["--cacert", "EXPIRED"], "expired", 1, "its certificate is not accepted: certificate has expired$"),
    ([], "here", 1, "its certificate is not accepted: self-signed certificate; --cacert names whom to trust"),
    (["--retry"], "here", 1, "its certificate is not accepted: self-signed certificate; --cacert names whom to trust"),
    (["--insecure"], "plain", 1, "no TLS is spoken there"),
    (["--cacert", "nowhere.pem"], "here", 2, "--cacert: nowhere.pem: No such file or directory"),
    (["--cacert", "README.md"], "here", 2, "--cacert: README.md holds no certificate; accepted: PEM"),
    (["--cacert", "HERE", "--insecure"], "here", 2, "--cacert contradicts --insecure"),
]
"""Flags, whose certificate the gateway shows, and how a command ends."""


class Secured(NamedTuple):
    """A gateway behind TLS with each certificate; ``files``: where these lie."""

    gateway: GatewayProcess
    urls: dict[str, str]
    files: dict[str, str]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    here = tls.certificate(folder, "IP:127.0.0.1", name="here")
    elsewhere = tls.certificate(folder, "DNS:elsewhere.example", name="elsewhere")
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(GatewayProcess("serve", "--publish-token", "t"))
        urls = {"plain": gateway.url.replace("http://", "https://")}
        expired = tls.expired(folder, "IP:127.0.0.1")
        for name, file in (("here", here), ("elsewhere", elsewhere), ("expired", expired)):
            urls[name] = stack.enter_context(Network(gateway.port, tls=tls.serving(file))).proxy().url
        yield Secured(gateway, urls, {"HERE": str(here), "ELSEWHERE": str(elsewhere), "EXPIRED": str(expired)})


@pytest.mark.parametrize(
    ("name", "flags", "shown", "code", "words"),
    [*(("cat", *case) for case in TLS), *(("publish", *TLS[i]) for i in (0, 2, 6, 10))],
)
def test_tls(
    secured: Secured, command: Command, name: str, flags: list[str], shown: str, code: int, words: str
) -> None:
    filled = [secured.files.get(flag, flag) for flag in flags]
    more = ["--from", "-1", "--limit", "1"] if name == "cat" else ["--token", "t"]
    tick = '{"t":5}'
    if name == "cat" and not code:
        assert command("publish", secured.gateway.url, "--token", "t", stdin=tick).code == 0
    ended = command(name, secured.urls[shown], *filled, *more, stdin=tick)
    assert ended.code == code, ended
    assert re.search(words, ended.err.rstrip()), ended
    assert ended.out.splitlines() == ([tick] if name == "cat" and not code else [])
    told = ended.err.splitlines()
    if code:
        assert len(told) == 1
    elif name == "publish":
        assert told[-1].startswith("1 tick published")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["http://"], 2, "is no address"),
        (["URL", "--from", "nonsense"], 2, "'nonsense' is no position"),
        (["URL", "--every", "0"], 2, "every"),
        (["URL", "--from", "a:1", "--tail", "1"], 2, "contradicts"),
        (["URL", "--run", "unknown"], 1, "answered 404"),
        (["URL/nowhere"], 1, "answered 404"),
        (["127.0.0.1:NOBODY"], 1, "Connection refused"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(command: Command, arguments: list[str], code: int, words: str) -> None:
    with Gateway.in_thread(host="127.0.0.1", port=0) as gateway:
        url = f"http://127.0.0.1:{port_of(gateway)}"
        ended = command("cat", *(a.replace("URL", url).replace("NOBODY", str(free_port())) for a in arguments))
    assert (ended.code, ended.out) == (code, ""), ended
    assert len(ended.err.splitlines()) == 1 and words in ended.err, ended


@pytest.mark.skipif(os.name != "posix", reason="pipes and signals as POSIX has them")
def test_cat_ends_quietly_when_its_reader_goes_even_between_ticks() -> None:
    with GatewayProcess("serve") as gateway:
        publish(gateway.url, lines_of([0]))
        with started(gateway.url) as reading:
            assert reading.stdout is not None and reading.stderr is not None
            assert json.loads(reading.stdout.readline())["t"] == 0
            reading.stdout.close()
            assert reading.wait(PATIENCE) == 0  # though no other tick ever came
            assert reading.stderr.read() == b""


@pytest.mark.skipif(os.name != "posix", reason="pipes and signals as POSIX has them")
@pytest.mark.parametrize("stalled", [False, True], ids=["waiting", "reader stalled"])
def test_ctrl_c_ends_cat_quietly(stalled: bool) -> None:
    big = [json.dumps({"t": t, "pad": "x" * 10_000}) for t in range(100)]  # far more than a pipe holds
    with GatewayProcess("serve") as gateway:
        publish(gateway.url, big if stalled else lines_of([0]))
        with started(gateway.url, "--from", "-1") as reading:
            assert reading.stdout is not None and reading.stderr is not None
            assert reading.stdout.readline()
            reading.send_signal(signal.SIGINT)
            assert reading.wait(PATIENCE) == 130
            assert reading.stderr.read() == b""


def test_cat_into_a_file(tmp_path: Any) -> None:
    lines = lines_of(range(500))
    with GatewayProcess("serve") as gateway:
        publish(gateway.url, lines)
        with (tmp_path / "ticks").open("wb") as file:
            subprocess.run(cat(gateway.url, "--from", "-1", "--limit", "500"), stdout=file, check=True, cwd=ROOT)
    assert (tmp_path / "ticks").read_text(encoding="utf-8").splitlines() == lines


def test_a_slow_reader_gets_everything() -> None:
    lines = [json.dumps({"t": t, "pad": "x" * 2000}) for t in range(2000)]
    with GatewayProcess("serve") as gateway:
        publish(gateway.url, lines[:1])
        with started(gateway.url, "--from", "-1", "--limit", "2000") as reading:
            assert reading.stdout is not None
            got = [reading.stdout.readline()]
            for at in range(1, 2000, 500):
                publish(gateway.url, lines[at : at + 500])  # while nobody reads the pipe
            got += reading.stdout.readlines()
            assert reading.wait(PATIENCE) == 0
    assert [line.decode().rstrip("\n") for line in got] == lines


# ---- publish ----


def tick(t: int) -> str:
    return json.dumps({"t": t, "text": "ü" * (t % 7)}, ensure_ascii=False)


def publisher(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tick_gateway", "publish", *arguments]


def read_range(url: str, run: str) -> list[str]:
    with urllib.request.urlopen(f"{url}/range?run={run}&format=ndjson", timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
    return text.splitlines()


def test_publish_through_a_network_that_fails() -> None:
    lines = [tick(t) for t in range(3000)]
    with GatewayProcess("serve") as gateway, Network(gateway.port) as network:
        cuts = sorted(random.Random(1).sample(range(200, 5000), 8))
        proxy = network.proxy(cuts)
        with Running(publisher(proxy.url, "--run", "a", "--retry"), stdin=True) as publishing:
            for at in range(0, 3000, 50):
                publishing.feed(lines[at : at + 50])
                if at in (1000, 2000):
                    network.hold()
                    told = len(publishing.stderr.lines)
                    assert publishing.stderr.more(told), publishing.report()  # it tries again, until it gets through
                    network.release()
            publishing.feed(lines[:10])
            publishing.close_stdin()
            assert publishing.wait() == 0, publishing.report()
        assert read_range(gateway.url, "a") == lines
        assert read_range(gateway.url, "a-2") == lines[:10]
        assert proxy.cut >= 2
        assert "3010 ticks published to a, a-2 in " in publishing.stderr.lines[-1]
        assert publishing.stdout.lines == []
        assert "Traceback" not in publishing.stderr.text


def test_publish_in_one_go_and_again() -> None:
    lines = [tick(t) for t in range(20_000)]
    with GatewayProcess("serve", "--ring", "50000") as gateway:
        for again in ([], ["--compress"]):  # a publisher that named its run may publish all of it again
            with Running(publisher(gateway.url, "--run", "a", *again), stdin=True) as publishing:
                publishing.feed(lines)
                publishing.close_stdin()
                assert publishing.wait() == 0, publishing.report()
            assert read_range(gateway.url, "a") == lines, again


def test_each_line_arrives_while_the_input_goes_on() -> None:
    with (
        GatewayProcess("serve") as gateway,
        Running(publisher(gateway.url, "--run", "a"), stdin=True) as publishing,
    ):
        reader = [sys.executable, "-m", "tick_gateway", "cat", gateway.url, "--from", "a:-1"]
        with Running(reader) as reading:
            for t in range(3):
                publishing.feed([tick(t)])
                assert reading.stdout.more(t) == [tick(t)], publishing.report() + reading.report()


@pytest.mark.parametrize(
    ("arguments", "data", "code", "last"),
    [
        (["URL", "--run", "no id"], "", 2, "is no run id"),
        (["nonsense://"], "", 2, "is no address"),
        (["127.0.0.1:1"], '{"t":0}', 1, "Connection refused"),
        (["URL/nowhere"], '{"t":0}', 1, "answered 404"),
        (["URL"], "", 0, "0 ticks published to"),
        (["URL/publish"], '{"t":0}', 0, "1 tick published to"),
        (["URL/sse", "-"], '{"t":0}', 0, "1 tick published to"),
        (["URL/nowhere"], '{"t":0}', 1, "looked for below /nowhere; accepted: HOST:PORT, or an http:// or"),
        (["URL", "README.md", "more"], "", 2, "extra argument .more."),
        (["URL", "nowhere"], "", 2, "nowhere cannot be read: No such file"),
        (["URL", "tests"], "", 2, "tests is a directory"),
        (["README.md"], "", 2, "README.md is a file: .* comes first, as in publish localhost:8000 README.md"),
        (["README.md", "URL"], "", 2, "README.md is a file: the gateway's address comes first"),
        (["URL"], '[\n{"t":0}, 1,\n{"t":1}\n]', 1, "2 ticks published to .*, 1 refused"),
        (["URL"], "\x1f\x8b\x08\x00", 1, "0 ticks published to .*, 1 refused"),
        (["URL"], '{"t":0}\n{"t":NaN}', 1, "1 tick published to .*, 1 refused"),
    ],
)
def test_how_publish_ends(command: Command, arguments: list[str], data: str, code: int, last: str) -> None:
    with Gateway.in_thread(host="127.0.0.1", port=0) as gateway:
        url = f"http://127.0.0.1:{port_of(gateway)}"
        ended = command("publish", *(argument.replace("URL", url) for argument in arguments), stdin=data)
    assert (ended.code, ended.out) == (code, ""), ended
    assert "Traceback" not in ended.err and re.search(last, ended.err.splitlines()[-1]), ended


def test_publish_a_file(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "ticks.json"
    records = [{"t": t, "x": [t]} for t in range(500)]
    for name, text in (("lines", "\n".join(map(json.dumps, records))), ("array", json.dumps(records, indent=1))):
        file.write_text(text)
        with Gateway.in_thread(host="127.0.0.1", port=0) as gateway:
            url = f"http://127.0.0.1:{port_of(gateway)}"
            ended = command("publish", url, str(file), "--run", name)
            assert ended.code == 0, ended
            assert list(map(json.loads, read_range(url, name))) == records


def test_the_gateways_token() -> None:
    with GatewayProcess("serve", "--publish-token", "secret") as gateway:
        outcomes = []
        for token in ("secret", "wrong"):
            with Running(publisher(gateway.url), stdin=True, env={"TICK_GATEWAY_PUBLISH_TOKEN": token}) as publishing:
                publishing.feed([tick(0)])
                publishing.close_stdin()
                outcomes.append((publishing.wait(), publishing.stderr.lines[-1]))
    assert outcomes[0][0] == 0
    assert outcomes[1][0] == 1 and "answered 401: publishing needs" in outcomes[1][1]
    assert outcomes[1][1].endswith("the gateway's token: give it with --token, or in TICK_GATEWAY_PUBLISH_TOKEN")


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_ends_publish_and_tells_the_figures() -> None:
    with (
        GatewayProcess("serve") as gateway,
        Running(publisher(gateway.url, "--run", "a"), stdin=True) as publishing,
    ):
        with Running([sys.executable, "-m", "tick_gateway", "cat", gateway.url]) as reading:
            publishing.feed([tick(0)])
            assert reading.stdout.more(0) == [tick(0)]
        publishing.process.send_signal(signal.SIGINT)
        assert publishing.wait() == 130, publishing.report()
        assert "Traceback" not in publishing.stderr.text
        assert len(publishing.stderr.lines) <= 1  # the figures, if the acknowledgement was there

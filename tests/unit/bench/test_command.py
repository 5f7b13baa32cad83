"""The bench as its users run it."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.support import tls
from tests.support.cutting_proxy import Network
from tests.support.gateway_process import ROOT, GatewayProcess, Running
from tick_gateway.cli.main import main
from tick_gateway.transports import TRANSPORTS

NAMES = [transport.name for transport in TRANSPORTS]
SMALL = ("--clients", "3", "--seconds", "0.3", "--catch-up", "500")


def bench(*options: str, stdin: bool = False) -> Running:
    return Running([sys.executable, "-m", "tick_gateway", "bench", *options], stdin=stdin)


def run(*options: str) -> Running:
    with bench(*options) as process:
        process.wait()
    assert "Traceback" not in process.stderr.text + process.stdout.text, process.report()
    return process


@pytest.fixture
def refused(command: Command) -> Callable[..., str]:
    """The one line with which it refuses."""

    def run(*options: str) -> str:
        ended = command("bench", *options)
        assert (ended.code, ended.out) == (2, ""), ended
        [line] = ended.err.splitlines()
        assert line.startswith("tick-gateway bench: ")
        return line

    return run


def figures(told: dict[str, Any]) -> None:
    """What holds of every measurement, on however busy a machine."""
    assert told["not_run"] is None
    assert (told["lost"], told["repeated"], told["behind"], told["cut_clients"]) == (0, 0, 0, 0)
    assert told["delivered_ticks"] == 3 * told["published_ticks"] > 0
    latency = told["latency_ms"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"]
    assert 0 < told["first_tick_ms"]["p50"] <= told["first_tick_ms"]["max"]
    assert told["bytes_per_tick"] > 200


def test_every_transport(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    process = run(*SMALL, "--json", "-", "--html", str(page))
    assert process.process.returncode == 0, process.report()
    told = json.loads(process.stdout.text)
    assert [one["transport"] for one in told["outcomes"]] == NAMES
    for one in told["outcomes"]:
        figures(one)
        assert one["catch_up_ms"] > 0 and one["encoding_got"] == "identity"
        if sys.platform == "linux":
            assert one["cpu_us_per_tick"] > 0
    rows = [line.partition(" ")[0] for line in process.stderr.lines]
    assert rows[: 1 + len(NAMES)] == ["transport", *NAMES], "the table goes where JSON does not"
    assert told["verdict"][0] == "Every checked connection had every tick once, in order."
    text = page.read_text("utf-8")
    assert all(f"<td>{name}</td>" in text for name in NAMES) and "<svg" in text


def test_views_codings_and_a_gateway_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    with GatewayProcess("serve") as gateway:
        process = run(
            *SMALL, "--url", gateway.url, "--pid", str(gateway.process.pid), "--transports", "ndjson,websocket",
            "--every", "5", "--fields", "agents.x", "--encoding", "zstd", "--json", str(file),
        )  # fmt: skip
        assert process.process.returncode == 0, process.report()
    ndjson, websocket = json.loads(file.read_text("utf-8"))["outcomes"]
    assert ndjson["encoding_got"] == "zstd" and ndjson["delivered_ticks"] == 3 * ndjson["published_ticks"] // 5
    assert (ndjson["lost"], ndjson["repeated"], ndjson["behind"]) == (0, 0, 0)
    assert websocket["not_run"] == "websocket has no coding zstd"


def test_a_coding_that_is_not_given_is_told() -> None:
    with GatewayProcess("serve") as gateway:
        process = run(
            *SMALL, "--url", gateway.url, "--transports", "incremental", "--encoding", "deflate", "--json", "-"
        )
    [told] = json.loads(process.stdout.text)["outcomes"]
    figures(told)
    assert told["encoding_asked"] == "deflate"
    if told["encoding_got"] != "deflate":
        assert "asked for deflate, the gateway gave identity" in told["remark"]


def test_a_late_reader_needs_memory_that_reaches_back() -> None:
    with GatewayProcess("serve", "--ring", "100") as gateway:
        process = run(*SMALL, "--url", gateway.url, "--transports", "ndjson", "--json", "-")
    [told] = json.loads(process.stdout.text)["outcomes"]
    assert told["catch_up_ms"] is None
    assert told["not_measured"]["catch_up"] == "the gateway's memory does not reach back so far"
    assert "--pid" in told["not_measured"]["cpu"]


SIXTH = """
import asyncio, sys
from aiohttp import web
from examples.sixth_transport import TRANSPORT
from tick_gateway import Settings, transports
from tick_gateway.cli.main import main
from tick_gateway.runtime import Runtime
from tick_gateway.server.app import make_app

transports.TRANSPORTS += (TRANSPORT,)

async def serve():
    runner = web.AppRunner(make_app(Runtime(Settings()), transports=transports.TRANSPORTS))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = "http://127.0.0.1:%d" % runner.addresses[0][1]
    bench = await asyncio.create_subprocess_exec(sys.executable, __file__, url)
    raise SystemExit(await bench.wait())

if len(sys.argv) > 1:
    small = ["--clients", "3", "--seconds", "0.3", "--json", "-"]
    main(["bench", "--url", sys.argv[1], "--transports", "json-seq", *small])
asyncio.run(serve())
"""


def test_a_transport_that_joins_the_registry_is_measured(tmp_path: Path) -> None:
    script = tmp_path / "sixth.py"
    script.write_text(SIXTH, encoding="utf-8")
    with Running([sys.executable, script], env={"PYTHONPATH": str(ROOT)}) as process:
        assert process.wait() == 0, process.report()
    [told] = json.loads(process.stdout.text)["outcomes"]
    figures(told)
    assert told["transport"] == "json-seq" and told["catch_up_ms"] > 0


@pytest.mark.parametrize(
    "options, said",
    [
        (["--transports", "pigeon"], "--transports: 'pigeon' is not known; known: websocket"),
        (["--encoding", "br"], "--encoding: 'br' is not known"),
        (["--network", "moon"], "--network: 'moon' is not known; known: loopback, lan"),
        (["--transports", ","], "--transports: name one or more"),
        (["--clients", "0"], "--clients"),
        (["--url", "ftp://host"], "'ftp://host' is no address such as"),
        (["--url", "http://127.0.0.1:1"], "does not answer: Connection refused"),
        (["--url", "http://127.0.0.1:1", "--network", "wifi"], "--network: only a gateway of the bench's own"),
        (["--pid", "1"], "--pid: it is of the gateway at --url"),
        (["--json", "/nowhere/there/figures.json"], "--json: /nowhere/there/figures.json: No such file"),
    ],
)
def test_what_is_asked_for_wrongly_is_told_in_a_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *options])
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == ""
    assert " bench: " in err and said in err and err.count("\n") == 1


def test_a_gateway_that_somebody_publishes_to_is_left_alone(refused: Callable[..., str]) -> None:
    with GatewayProcess("demo", "--rate", "100", "--agents", "2") as gateway:
        with Running([sys.executable, "-m", "tick_gateway", "cat", gateway.url, "--limit", "5"]) as reader:
            reader.wait()
        assert "ticks were published to" in refused("--url", gateway.url)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_told_to(number: signal.Signals, tmp_path: Path) -> None:
    """Whatever it is doing; and its gateway ends with it."""
    page = tmp_path / "report.html"
    with bench("--clients", "3", "--seconds", "60", "--transports", "ndjson,sse", "--html", str(page)) as process:
        gateway = children(process.process.pid)
        process.process.send_signal(number)
        assert process.wait() == 130, process.report()
        assert "Traceback" not in process.stderr.text
    assert not any(os.path.exists(f"/proc/{pid}") for pid in gateway)
    assert not page.exists(), "nothing was measured that could be written"


def children(pid: int) -> list[int]:
    """Its children, as soon as there is one."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("this system does not tell a process's children")
    while not (found := path.read_text().split()):
        assert Path(f"/proc/{pid}").exists()
    return list(map(int, found))


def test_a_gateway_behind_tls(refused: Callable[..., str], tmp_path: Path) -> None:
    own = tls.certificate(tmp_path, "IP:127.0.0.1")
    options = ("--clients", "3", "--checked", "2", "--seconds", "0.3", "--catch-up", "200", "--json", "-")
    with GatewayProcess("serve") as gateway, Network(gateway.port, narrow=False, tls=tls.serving(own)) as network:
        url = network.proxy().url
        assert url.startswith("https://")
        process = run("--url", url, "--cacert", str(own), *options)
        assert process.process.returncode == 0, process.report()
        outcomes = json.loads(process.stdout.text)["outcomes"]
        assert [one["transport"] for one in outcomes] == NAMES
        for one in outcomes:
            figures(one)
            assert one["catch_up_ms"] > 0
        unknown = refused("--url", url, *SMALL)
        assert "does not answer: its certificate is not accepted: self-signed certificate" in unknown
        assert "does not answer: no TLS is spoken there" in refused("--url", gateway.url.replace("http", "https"))
        assert run("--url", url, "--insecure", *SMALL, "--transports", "sse").process.returncode == 0


def test_flags_of_tls_need_an_address(refused: Callable[..., str]) -> None:
    assert "--url" in refused("--insecure")
    assert "nowhere.pem: No such file" in refused("--url", "https://127.0.0.1:1", "--cacert", "nowhere.pem")

"""`tick-gateway serve` as a process: how it starts, listens, refuses and stops. And the Gateway in other programs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.support.blocking_client import UPGRADE, Follower, Peer, ask, chunk, request
from tests.support.environments import KUBERNETES
from tests.support.frames import CLOSE, frame
from tests.support.gateway_process import PATIENCE, GatewayProcess, Running, free_port, publish
from tick_gateway import Gateway, GatewayError
from tick_gateway.cli.main import main
from tick_gateway.errors import HistoryError, InboxFull, Locked, NotFound, SettingError
from tick_gateway.settings import TABLE, parse_settings


def refused(*args: str, env: Mapping[str, str] | None = None) -> str:
    """The one line that a command says before it ends with code 2."""
    with Running([sys.executable, "-m", "tick_gateway", *args], env=env) as command:
        assert command.wait() == 2, command.report()
        assert command.stdout.lines == []
        (line,) = command.stderr.lines
        return line


def refused_here(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The same, without a process of its own."""
    with pytest.raises(SystemExit) as caught:
        main(args, prog_name="tick-gateway")
    assert caught.value.code == 2
    out, error = capsys.readouterr()
    (line,) = error.splitlines()
    assert out == "" and line.startswith("tick-gateway")
    return line


# ---- what is refused ----


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for host in ("127.0.0.1", ""):
            line = refused_here(capsys, "serve", "--port", str(port), "--host", host)
            assert line.startswith("tick-gateway serve: --port: ") and "in use" in line and str(port) in line
            assert line.endswith(f"take another, such as {port % 65535 + 1}, or 0 for any that is free")
            assert sys.platform != "linux" or f" by process {os.getpid()} (" in line


def test_the_port_of_another_gateway() -> None:
    with GatewayProcess("demo") as gateway:
        line = refused("demo", "--port", str(gateway.port))
        assert "in use" in line and (sys.platform != "linux" or f" by process {gateway.process.pid} (" in line)
        assert ask(gateway.port, request("GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["serve", "--port", "eighty"], "--port: 'eighty' is not a whole number"),
        (["serve", "--port", "65536"], "--port: 65536 is out of range"),
        (["serve", "--port", "-1"], "--port: -1 is out of range; accepted: from 0 to 65535"),
        (["serve", "--port", "\u0661"], "--port"),
        (["serve", "--ring", "0"], "--ring: 0 is out of range; accepted: at least 1"),
        (["serve", "--ring-bytes", "64 parsecs"], "--ring-bytes: '64 parsecs' is not a number of bytes"),
        (["serve", "--flush-interval", "1e-3"], "--flush-interval"),
        (["serve", "--flush-interval", "nan"], "--flush-interval"),
        (["serve", "--nan", "maybe"], "--nan: 'maybe' is not accepted; accepted: refuse, null"),
        (["serve", "--nonsense"], "--nonsense"),
        (["serve", "extra"], "extra"),
        (["serve", "--port"], "tick-gateway serve: Option '--port' requires an argument"),
        (["publish", "localhost", "--run"], "tick-gateway publish: Option '--run' requires an argument"),
        (["serve", "--host", "a" * 64, "--port", "0"], f"--host: cannot listen on {'a' * 64}, port 0: "),
        (["serve", "--host", "ä" * 64, "--port", "0"], "is no host name"),
        (["serve", "--host", "203.0.113.7", "--port", "0"], "--host: cannot listen on 203.0.113.7"),
        (["serve", "--retain-age", "week"], "--retain-age: 'week' is not a number of seconds, such as 0.02, or a time"),
        (["serve", "--fsync", "often"], "--fsync: 'often' is not accepted; accepted: never, interval, block"),
        (["serve", "--data", ""], "--data: names no directory"),
        (["serve", "--publish-network", "no"], "--publish-network: 'no' is not a switch; accepted: on, off"),
        (["serve", "--publish-network", "off"], "--publish-network: is off, and nobody else publishes here; give --st"),
        (["serve", "--host", "localhost:80", "--port", "0"], "a name or an address of this machine, without a scheme"),
        (["demo", "--data", __file__], f"--data: {__file__} is no directory"),
        (["demo", "--rate", "0"], "--rate"),
        (["demo", "--rate", "fast"], "--rate"),
        (["demo", "--agents", "0"], "--agents"),
        (["nonsense"], "nonsense"),
        (["publish"], "publish: Missing argument 'URL'. [OPTIONS] URL [FILE]: tick-gateway publish --help says more"),
        (["cat", "localhost", "--from", "x"], "'--from': 'x' is no position; accepted: RUN:T or T"),
        (["verify", __file__], "test_serve.py is no directory"),
        (["bench", "--fields", "a..b"], "--fields: 'a..b' is no path"),
        (["--nonsense"], "--nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_flags(args: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused_here(capsys, *args)
    assert says in line and len(line) < 500


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TICK_GATEWAY_PORT", "eighty", "TICK_GATEWAY_PORT: 'eighty' is not a whole number"),
        ("TICK_GATEWAY_PROT", "8000", "TICK_GATEWAY_PROT: no such setting; accepted: TICK_GATEWAY_BACKLOG"),
        ("TICK_GATEWAY_", "8000", "no such setting"),
        ("TICK_GATEWAY_MAX_TICK", "1", "TICK_GATEWAY_MAX_TICK: 1 is out of range"),
    ],
)
def test_bad_variables(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert says in refused_here(capsys, "serve")


def test_settings_of_a_history_that_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """They are told, by the names under which they were given; it goes on to what is refused here."""
    monkeypatch.setenv("TICK_GATEWAY_FSYNC", "block")
    with pytest.raises(SystemExit):
        main(["serve", "--retain-bytes", "100G", "--host", "ä" * 64], prog_name="tick-gateway")
    told, _ = capsys.readouterr().err.splitlines()
    assert told.startswith("tick-gateway serve: TICK_GATEWAY_FSYNC, --retain-bytes: no effect without --data")
    Gateway(retain_age=5.0)
    assert [record.getMessage().rpartition(",")[0] for record in caplog.records] == [
        "TICK_GATEWAY_FSYNC, retain_age: no effect without data"
    ]


def test_a_history_that_cannot_be_had_in_python(tmp_path: Path) -> None:
    """One error, that says what is wrong, and nothing that it was made from."""
    data = str(tmp_path / "history")
    with Gateway.in_thread(port=0, data=data), pytest.raises(Locked, match="in use by process"):
        Gateway.in_thread(port=0, data=data)
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "file/below"):
        with pytest.raises(HistoryError, match="(?i)no(t a)? directory") as caught:
            Gateway.in_thread(port=0, data=str(tmp_path / name))
        error = caught.value
        assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)


def test_beside_a_service_of_its_name_in_kubernetes() -> None:
    with GatewayProcess("serve", env=KUBERNETES) as gateway:
        assert ask(gateway.port, request("GET", "/healthz")).status == 200


def test_a_bad_variable_of_a_process() -> None:
    assert "no such setting" in refused("serve", env={"TICK_GATEWAY_PROT": "8000"})


def test_flags_outrank_variables() -> None:
    assert parse_settings({"max_tick": "100"}, {"TICK_GATEWAY_MAX_TICK": "50"}).max_tick == 100
    assert parse_settings({"max_tick": None}, {"TICK_GATEWAY_MAX_TICK": "50"}).max_tick == 50


def test_a_directory_to_follow_that_is_not_there_yet(tmp_path: Path) -> None:
    with GatewayProcess("serve", "--tail", str(tmp_path / "segmenst")) as gateway:
        assert gateway.stderr.find("segmenst is not there yet; its files are read as soon as it is"), gateway.report()


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*args: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(args, prog_name="tick-gateway")
        assert caught.value.code == 0
        return capsys.readouterr().out

    for command in ("serve", "demo"):
        text = shown(command, "--help")
        assert all(row.flag in text for row in TABLE)
        words = " ".join(text.split())
        assert "20ms, 90s, 15m, 12h or 7d" in words and "(bytes; default: 64M)" in words
    text = shown()
    assert {"serve", "demo", "cat", "publish"} <= set(text.split()) and "..." not in text.partition("Commands:")[2]


# ---- listening ----


def test_it_listens_on_every_address_and_says_so() -> None:
    with GatewayProcess("serve", "--host", "") as gateway:
        hosts = ["127.0.0.1", "::1"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
        for host in hosts:
            with Peer(gateway.port, host=host) as peer:
                assert peer.send(request("GET", "/healthz")).response().status == 200
        text = gateway.stderr.text
        assert f"http://localhost:{gateway.port}/" in text and "every other address" in text
        assert gateway.stderr.find("curl --data-binary @-") is not None


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_one_address_alone() -> None:
    with Running(
        [sys.executable, "-m", "tick_gateway", "serve", "--host", "::1", "--port", "0"],
    ) as gateway:
        found = gateway.stderr.find(r"http://\[::1\]:(\d+)/")
        assert found is not None, gateway.report()
        with Peer(int(found[1]), host="::1") as peer:
            assert peer.send(request("GET", "/healthz")).response().status == 200
        with pytest.raises(ConnectionRefusedError):
            Peer(int(found[1]))
        assert "every other address" not in gateway.stderr.text
        assert gateway.terminate() == 0


def test_it_answers_as_soon_as_it_says_where() -> None:
    """The line with the address stands on standard error once it listens: whoever waits for it may connect."""
    with GatewayProcess("serve") as gateway, Peer(gateway.port) as peer:
        assert peer.send(request("GET", "/readyz")).response().json() == {"ready": True}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a directory in which nobody may make one")
def test_a_history_that_cannot_be_written_is_named_by_its_directory() -> None:
    """In the log and in the banner; but not in /healthz, which clients read."""
    where = "/proc/nowhere/history"
    with GatewayProcess("serve", env={"TICK_GATEWAY_DATA": where}) as gateway:
        assert gateway.stderr.find(rf"^history in {where}: the directory cannot be written to: ")
        assert gateway.stderr.find(rf"^  history in {where}/ cannot be written: ")
        with Peer(gateway.port) as peer:
            health = peer.send(request("GET", "/healthz")).response().json()
        assert health["status"] == "degraded" and "nowhere" not in str(health)


def test_a_directory_is_named_as_it_was_given() -> None:
    assert f"TICK_GATEWAY_DATA: {__file__} is no directory" in refused("serve", env={"TICK_GATEWAY_DATA": __file__})


# ---- stopping ----

READERS = {
    "ndjson": "/ndjson",
    "sse": "/sse",
    "poll": "/poll?timeout=60&last_t=run:2",
    "incremental": "/incremental?from_t=run:9",
}
LINES = ['{"t":0}', '{"t":1}', '{"t":2}']


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number: signal.Signals) -> None:
    """Readers of every kind and publishers are told; who does not listen does not hold it up for ever."""
    with GatewayProcess("serve", "--drain-timeout", "5") as gateway:
        publish(gateway.url, LINES, run="run")
        peers = {name: Peer(gateway.port).send(request("GET", path)) for name, path in READERS.items()}
        peers["ws"] = Peer(gateway.port).open("/ws/stream?hello=1")
        peers["bare"] = Peer(gateway.port).open("/ws/stream")
        peers["ws publisher"] = Peer(gateway.port).open("/ws/publish", {"Tick-Run": "run"})
        stubborn = Peer(gateway.port).open("/ws/publish")  # answers no close frame
        idle, half = Peer(gateway.port), Peer(gateway.port).send(b"GET /nd")
        chunked = request("POST", "/publish", {"Transfer-Encoding": "chunked", "Tick-Run": "run"})
        peers["publisher"] = Peer(gateway.port).send(chunked, chunk(b'{"t":3}\n{"t":4}\n{"t":5'))
        follower = Follower(gateway.port, "/ndjson?hello=1&from_t=run:-1")
        follower.wait_for([*LINES, '{"t":3}', '{"t":4}'])  # the publisher has begun, the readers are there
        peers["ws"].until(b'{"t":4}')
        gateway.process.send_signal(number)

        assert json.loads(stream_end(peers["ndjson"])) == {"notice": "end", "reason": "shutdown", "position": "run:4"}
        sse = peers["sse"].rest()
        assert b'event: end\ndata: {"notice":"end","reason":"shutdown","position":"run:4"}\nid: run:4' in sse
        assert sse.endswith(b"0\r\n\r\n")
        assert peers["ws"].frame().json()["reason"] == "shutdown"
        for name in ("ws", "bare", "ws publisher"):
            closing = peers[name].close_frame()
            assert closing.code == 1001 and b"shutdown" in closing.payload
            peers[name].send(frame(CLOSE, closing.payload[:2]))
        assert peers["poll"].response().status == peers["incremental"].response().status == 200
        counts = peers["publisher"].response()
        assert (counts.status, counts.json()["accepted"], counts.json()["error"]) == (503, 2, "shutdown")
        assert gateway.wait() == 0
        for peer in [*peers.values(), stubborn, idle, half]:
            peer.close()
        follower.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
def test_more_of_sigterm_change_nothing() -> None:
    """To the very end: also while Python itself ends."""
    with GatewayProcess("serve") as gateway:
        deadline = time.monotonic() + PATIENCE
        while gateway.process.poll() is None and time.monotonic() < deadline:
            gateway.process.terminate()
        assert gateway.wait() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX shells alone can close them")
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "<&-", "2>&-"])
def test_without_standard_streams(closed: str, tmp_path: Path) -> None:
    """As some supervisors start programs: no socket takes their place, and nothing aborts."""
    port = free_port()
    command = [sys.executable, "-m", "tick_gateway", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with Running(["sh", "-c", f'exec "$@" {closed}', "sh", *command, "--data", str(tmp_path)]) as gateway:
        deadline = time.monotonic() + PATIENCE
        while not is_open(port) and gateway.process.poll() is None and time.monotonic() < deadline:
            continue
        publish(f"http://127.0.0.1:{port}", LINES)
        for _ in range(5):
            assert ask(port, request("GET", "/latest")).status == 200
        assert gateway.terminate() == 0, gateway.report()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX shells alone can close them")
def test_a_program_without_standard_streams() -> None:
    script = "from tick_gateway import Gateway; gateway = Gateway.in_thread(port=0); gateway.publish('{\"t\":1}')"
    script += "; gateway.close()"
    with Running(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", script]) as program:
        assert program.wait() == 0, program.report()


def is_open(port: int) -> bool:
    try:
        Peer(port).close()
    except ConnectionRefusedError:
        return False
    return True


def stream_end(peer: Peer) -> bytes:
    """The last line of an NDJSON stream, which has to come to its proper end."""
    body = peer.rest()
    assert body.endswith(b"\r\n0\r\n\r\n"), body[-200:]
    return body.removesuffix(b"\n\r\n0\r\n\r\n").rpartition(b"\n")[2]


def test_a_second_signal_changes_nothing() -> None:
    with GatewayProcess("serve") as gateway:
        peer = Peer(gateway.port).open("/ws/stream?hello=1")
        gateway.process.send_signal(signal.SIGTERM)
        assert peer.close_frame().code == 1001
        gateway.process.send_signal(signal.SIGTERM)  # it waits for the close frame of the peer now
        peer.send(frame(CLOSE, b"\x03\xe9"))
        assert gateway.wait() == 0
        peer.close()


def test_readers_that_do_not_read_do_not_hold_it_up() -> None:
    with GatewayProcess("serve", "--drain-timeout", "1") as gateway:
        stuck = [Peer(gateway.port, receive_buffer=4096).send(request("GET", "/ndjson?from_t=-1")) for _ in range(3)]
        large = [json.dumps({"t": t, "x": "x" * 1_000_000}) for t in range(5)]
        publish(gateway.url, large)
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.wait() == 0
        for peer in stuck:
            peer.close()


# ---- in a script's own process ----

SCRIPT = """
import threading
import time
from tick_gateway import Gateway, GatewayError
with Gateway.in_thread(port=0, host="127.0.0.1") as gateway:
    print(gateway.url, flush=True)
    for t in range(5):
        gateway.publish({"t": t})
    input()
print([thread.name for thread in threading.enumerate()])
try:
    gateway.publish({"t": 5})
except GatewayError as error:
    print(error)
gateway.close()
"""


def test_a_plain_script() -> None:
    with Running([sys.executable, "-c", SCRIPT], stdin=True) as script:
        found = script.stdout.find(r"http://127.0.0.1:(\d+)/")
        assert found is not None, script.report()
        follower = Follower(int(found[1]), "/ndjson?hello=1&tail=5")
        follower.wait_for(f'{{"t":{t}}}' for t in range(5))
        script.feed([""])
        assert script.wait() == 0, script.report()
        assert follower.lines.wait(lambda lines: '"reason":"finished"' in lines[-1])
        assert script.stdout.lines[1] == "['MainThread']"
        assert "the gateway is closed" in script.stdout.lines[2]
        assert script.stderr.text == ""
        follower.close()


def test_a_script_that_raises_still_closes() -> None:
    code = SCRIPT.replace("input()", "raise SystemExit(7)")
    with Running([sys.executable, "-c", code]) as script:
        assert script.wait() == 7, script.report()
        assert script.stderr.text == ""


def test_in_thread_errors() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        threads = threading.active_count()
        with pytest.raises(SettingError, match="in use"):
            Gateway.in_thread(port=taken.getsockname()[1], host="127.0.0.1")
        with pytest.raises(SettingError, match="out of range"):
            Gateway.in_thread(port=0, ring=0)
        with pytest.raises(SettingError, match="rings: no such setting"):
            Gateway.in_thread(port=0, rings=1)  # type: ignore[call-arg]
        with pytest.raises(SettingError, match="'8000' is not a whole number"):
            Gateway.in_thread(port="8000")  # type: ignore[arg-type]
        assert threading.active_count() == threads


def test_in_thread_on_a_running_loop_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr("tick_gateway.http.listen.Server.start", fail)
    with pytest.raises(GatewayError, match="did not start: no"):
        Gateway.in_thread(port=0, host="127.0.0.1")


def test_close_may_be_called_again_and_before_anything() -> None:
    Gateway().close()
    gateway = Gateway.in_thread(port=0, host="127.0.0.1")
    gateway.close()
    gateway.close()


def test_two_gateways_side_by_side() -> None:
    with Gateway.in_thread(port=0) as one, Gateway.in_thread(port=0) as two:
        one.publish({"t": 1})
        two.publish({"t": 2})
        for gateway, t in ((one, 1), (two, 2)):
            assert gateway.url is not None
            assert ask(int(gateway.url.split(":")[2].strip("/")), request("GET", "/latest")).json() == {"t": t}


def test_publish_from_many_threads_is_read_by_all() -> None:
    with Gateway.in_thread(port=0, host="127.0.0.1") as gateway:
        assert gateway.url is not None
        follower = Follower(int(gateway.url.split(":")[2].strip("/")))
        lock, ticks = threading.Lock(), iter(range(2000))

        def work() -> None:
            while True:
                with lock:
                    t = next(ticks, None)
                    if t is None:
                        return
                    gateway.publish({"t": t})

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        follower.wait_for(f'{{"t":{t}}}' for t in range(2000))
        follower.close()


def test_publish_timeout() -> None:
    """A loop that does not come round: without a timeout, publish raises at once; with one, it waits for room."""
    for timeout in (0.0, 30.0):
        with Gateway.in_thread(port=0, host="127.0.0.1", inbox=5, publish_timeout=timeout) as gateway:
            assert gateway.url is not None and gateway._loop is not None
            follower = Follower(int(gateway.url.split(":")[2].strip("/")))
            blocked, go_on = threading.Event(), threading.Event()

            def block(blocked: threading.Event = blocked, go_on: threading.Event = go_on) -> None:
                blocked.set()
                go_on.wait(60)

            gateway._loop.call_soon_threadsafe(block)
            blocked.wait()
            for t in range(5):
                gateway.publish({"t": t})
            if timeout:
                threading.Timer(0.2, go_on.set).start()
                gateway.publish({"t": 5})  # waits for the loop
            else:
                with pytest.raises(InboxFull):
                    gateway.publish({"t": 5})
                go_on.set()
            follower.wait_for(f'{{"t":{t}}}' for t in range(6 if timeout else 5))
            gateway.publish({"t": 6})
            assert follower.lines.wait(lambda lines: lines[-1] == '{"t":6}')
            notices = [json.loads(line) for line in follower.lines.lines if line.startswith('{"notice":"gap"')]
            assert [(notice["after"], notice["next"]) for notice in notices] == ([] if timeout else [(4, 6)])
            assert gateway.runtime.bus.dropped == (0 if timeout else 1)
            follower.close()


def test_end_run_from_python() -> None:
    with Gateway(port=0, host="127.0.0.1") as gateway:
        with pytest.raises(NotFound):
            gateway.end_run()
        gateway.publish({"t": 1}, run="one")
        gateway.end_run()
        gateway.publish({"t": 1})
    assert [run.ended for run in gateway.runtime.bus.runs.values()] == [True, False]


# ---- on an application of one's own ----


async def test_mounted_below_a_prefix() -> None:
    app = web.Application()

    async def own(_: web.Request) -> web.Response:
        return web.Response(text="mine")

    app.router.add_get("/", own)
    one, two = Gateway(), Gateway()
    one.mount(app, "/one")
    two.mount(app, "deep/two/")
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        one.publish({"t": 1})
        assert await (await client.get("/")).text() == "mine"
        assert await (await client.get("/one/latest")).json() == {"t": 1}
        assert (await client.get("/deep/two/latest")).status == 404
        assert (await client.get("/latest")).status == 404
        answer = await client.post("/deep/two/publish", data=b'{"t":7}')
        assert answer.status == 200
        links: dict[str, Any] = await (await client.get("/one/", headers={"Accept": "application/json"})).json()
        assert links["links"]["meta"].endswith("/one/meta")
        following = (await client.get("/one/incremental")).links["next"]["url"]
        assert str(following).startswith(str(client.make_url("/one/incremental")))
        ws = await client.session.ws_connect(client.make_url("/one/ws/stream"))
        async with client.get("/deep/two/ndjson") as stream:
            assert json.loads(await stream.content.readline()) == {"t": 7}
            assert await ws.receive_json() == {"t": 1}
            stopping = asyncio.create_task(client.server.close())
            assert (await ws.receive()).data == 1001
            assert json.loads(await stream.content.readline())["reason"] == "shutdown"
            await stopping


def test_the_handshake_of_a_mounted_gateway_is_the_same() -> None:
    """Over a real socket: the takeover works below a prefix, too."""
    with Running([sys.executable, "-c", MOUNTED], stdin=True) as script:
        found = script.stdout.find(r"port (\d+)")
        assert found is not None, script.report()
        with Peer(int(found[1])) as peer:
            peer.send(request("GET", "/ticks/ws/stream", UPGRADE))
            assert peer.head().status == 101
            assert peer.frame().json() == {"t": 1}


MOUNTED = """
import asyncio, sys
from aiohttp import web
from tick_gateway import Gateway
async def main():
    app, gateway = web.Application(), Gateway()
    gateway.mount(app)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    gateway.publish({"t": 1})
    print("port", runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()
asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux' /proc")
def test_large_answers_do_not_outlive_their_clients() -> None:
    def memory() -> int:
        status = Path(f"/proc/{gateway.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) >> 10

    with GatewayProcess("serve") as gateway:
        publish(gateway.url, [json.dumps({"t": t, "x": "x" * 50_000}) for t in range(200)])
        after: list[int] = []
        for _ in range(4):
            sockets = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(10)]
            for one in sockets:
                one.sendall(b"GET /incremental?from_t=0&limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert one.recv(100)
            for one in sockets:
                one.close()
            time.sleep(0.2)
            after.append(memory())
        assert after[-1] - after[0] < 100

"""The life of a Gateway in Python: when it takes ticks, what it says where nobody could read them, and how it tells
its state."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from fastapi import FastAPI
from flask import Flask

from tick_gateway import Gateway, GatewayError
from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.errors import Conflict, InboxFull, Locked, NotServing, RunClosed, SettingError
from tick_gateway.http.listen import loop_factory
from tick_gateway.settings import Settings

from ..support import history_files
from ..support.blocking_client import Follower, port_of
from ..support.gateway_process import PATIENCE, Running


def here(**settings: Any) -> Gateway:
    """A gateway that has not begun; it would listen on loopback, on a free port."""
    return Gateway(**{"host": "127.0.0.1", "port": 0, **settings})


def latest(gateway: Gateway) -> Any:
    with urlopen(f"{gateway.url}latest", timeout=PATIENCE) as answer:
        return json.load(answer)


# ---- a plain with ----


def test_a_plain_with_listens() -> None:
    with here() as gateway:
        gateway.publish({"t": 1})
        assert latest(gateway) == {"t": 1}
    with pytest.raises(NotServing, match="closed"):
        gateway.publish({"t": 2})


async def test_async_with_listens_and_leaves_the_loop_alone() -> None:
    async with here() as gateway:
        gateway.publish({"t": 1})
        assert await asyncio.to_thread(latest, gateway) == {"t": 1}
        assert threading.current_thread().name not in {t.name for t in threading.enumerate() if "gateway" in t.name}
    assert gateway.state == "closed"


def test_with_and_start_around_one_that_listens_already() -> None:
    gateway = Gateway.in_thread(port=0, host="127.0.0.1")
    url = gateway.url
    with gateway as same:
        assert same is gateway.start() is gateway and gateway.url == url
    assert gateway.state == "closed"


# ---- ticks that nobody could read ----


def closed() -> Gateway:
    gateway = here()
    gateway.close()
    return gateway


def closed_after_a_life() -> Gateway:
    with here() as gateway:
        return gateway


def not_started() -> Gateway:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gateway = here(port=taken.getsockname()[1])
        with pytest.raises(SettingError, match="in use"):
            gateway.start()
    return gateway


def broken() -> Gateway:
    """One whose loop fell over."""
    gateway = here().start()

    def fail() -> None:
        raise SystemExit("the loop falls over")

    assert gateway._loop is not None
    gateway._loop.call_soon_threadsafe(fail)
    with pytest.raises(GatewayError, match="the gateway's thread failed: the loop falls over"):
        gateway.wait(PATIENCE)
    return gateway


LIFELESS: dict[str, tuple[Callable[[], Gateway], str, str]] = {
    "never started": (here, "nothing serves this gateway yet.*`with Gateway.*mount", "new"),
    "closed before anything": (closed, "the gateway is closed", "closed"),
    "closed": (closed_after_a_life, "the gateway is closed", "closed"),
    "its port was taken": (not_started, "the gateway failed.*port.*in use", "failed"),
    "its thread failed": (broken, "the gateway failed.*the loop falls over", "failed"),
}


@pytest.mark.parametrize("name", LIFELESS)
def test_ticks_that_nobody_could_read_are_refused(name: str) -> None:
    make, says, state = LIFELESS[name]
    gateway = make()
    assert gateway.state == state
    for _ in range(2):
        with pytest.raises(NotServing, match=says):
            gateway.publish({"t": 1})
    with pytest.raises(NotServing, match=says):
        gateway.publish(b'{"t":2}', run="named")
    with pytest.raises(GatewayError):
        gateway.end_run()
    assert gateway.runtime.bus.published == gateway.runtime.bus.dropped == 0
    gateway.close()  # has no effect, and raises nothing
    if state != "new":
        for begin in (gateway.start, lambda: gateway.mount(web.Application())):
            with pytest.raises(NotServing, match="one life: make another"):
                begin()


def test_one_life_of_each_kind() -> None:
    mounted = here()
    mounted.mount(web.Application())
    with pytest.raises(NotServing, match="cannot listen: it is mounted below /ticks already"), mounted:
        pass
    with pytest.raises(NotServing, match="cannot be mounted: it is mounted"):
        mounted.mount(web.Application(), "/other")
    with here() as listening, pytest.raises(NotServing, match="cannot be mounted: it serves already"):
        listening.mount(web.Application())
    with pytest.raises(SettingError, match="serve gateway.app itself"):
        here().mount(web.Application(), "/")
    application: Any
    for application in (Flask("other"), FastAPI(), object()):
        unspent = here()
        with pytest.raises(SettingError, match=r"no aiohttp.web.Application; .*gateway\.asgi\(\)"):
            unspent.mount(application)
        unspent.mount(web.Application())  # what was refused began nothing


async def test_a_mounted_one_keeps_ticks_until_its_application_starts() -> None:
    """As many as the inbox holds; then it says so instead of dropping the oldest."""
    gateway, app = here(inbox=5, ring=3), web.Application()
    gateway.mount(app)
    assert str(gateway.state) == "mounted"
    for t in range(5):
        gateway.publish({"t": t})
    with pytest.raises(InboxFull, match="has not started"):
        gateway.publish({"t": 5})
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        assert gateway.state == "serving"
        gateway.publish({"t": 6})
        async with client.get("/ticks/incremental") as answer:
            assert [tick["t"] for tick in await answer.json()] == [3, 4, 6]  # what memory holds of them
    with pytest.raises(NotServing, match="closed"):
        gateway.publish({"t": 7})


async def test_its_own_application_served_elsewhere_does_so_too() -> None:
    """And may have routes of one's own, also where it listens by itself."""
    gateway = here(inbox=5)
    app = gateway.app
    for t in range(5):
        gateway.publish({"t": t})
    with pytest.raises(InboxFull, match="has not started"):
        gateway.publish({"t": 5})
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        assert gateway.state == "serving"
        async with client.get("/incremental") as answer:
            assert [tick["t"] for tick in await answer.json()] == [0, 1, 2, 3, 4]
    other = here()

    async def own(request: web.Request) -> web.Response:
        return web.json_response({"t": -1})

    other.app.router.add_get("/own", own)
    async with other:
        with await asyncio.to_thread(urlopen, f"{other.url}own") as mine:
            assert json.load(mine) == {"t": -1}


async def test_what_was_published_before_the_start_is_stored(tmp_path: Path) -> None:
    gateway, app = here(data=tmp_path / "history", inbox=10), web.Application()
    gateway.mount(app)
    with contextlib.suppress(InboxFull):
        for t in range(50):
            gateway.publish({"t": t}, run="A")
    async with TestClient(TestServer(app, host="127.0.0.1")):
        gateway.publish({"t": 60}, run="A")
    assert history_files.lines(tmp_path / "history", "A") == [b'{"t":%d}' % t for t in [*range(10), 60]]


def test_every_tick_that_was_taken_is_stored_whenever_it_is_closed(tmp_path: Path) -> None:
    """Publishers that go on while it closes: what publish took is there, what it refused is not."""
    for number in range(5):
        data = tmp_path / str(number)
        gateway = here(data=data, publish_timeout=10.0).start()
        taken, begun = list[bytes](), threading.Event()

        def publish(gateway: Gateway = gateway, taken: list[bytes] = taken, begun: threading.Event = begun) -> None:
            with contextlib.suppress(NotServing):
                for t in range(1 << 40):
                    gateway.publish(tick := b'{"t":%d}' % t, run="A")
                    taken.append(tick)
                    begun.set()

        thread = threading.Thread(target=publish)
        thread.start()
        assert begun.wait(PATIENCE)
        gateway.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert history_files.lines(data, "A") == taken


def test_a_start_that_failed_lets_its_history_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr("tick_gateway.http.listen.Server.start", fail)
        with pytest.raises(GatewayError, match="did not start: no"):
            here(data=tmp_path).start()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingError):
        Gateway.in_thread(host="127.0.0.1", port=taken.getsockname()[1], data=tmp_path)
    with here(data=tmp_path) as gateway:
        gateway.publish({"t": 1})


AT_EXIT = """
import json, sys, threading
from urllib.request import Request, urlopen
from tick_gateway import Gateway

def simulate():
    for t in range(1000):
        gateway.publish(json.dumps({"t": t, "pad": str(t) * 100}), run="A")

def look_and_simulate():  # the main thread ends meanwhile
    threading.main_thread().join()
    simulate()
    with urlopen(gateway.url + "poll?last_t=A:998", timeout=60) as answer:
        assert json.load(answer)["t"] == 999
    with urlopen(gateway.url + "range?t0=0&t1=20", timeout=60) as answer:  # from disk
        print(len(answer.read().splitlines()))
    gzip = {"Accept-Encoding": "gzip"}  # compressed beside the loop, or read there
    gateway.publish({"t": 0}, run="B")  # whose file stays open; the last one of A may be sealed
    sealed = set()
    while sealed != {True, False}:
        segments = json.load(urlopen(gateway.url + "segments", timeout=60))["segments"]
        sealed = {one["sealed"] for one in segments}
    for path in ("incremental?from_t=A:-1", "range?run=A&format=json", segments[0]["path"], segments[-1]["path"]):
        with urlopen(Request(gateway.url + path, headers=gzip), timeout=60) as answer:
            assert answer.status == 200 and answer.read(), path

gateway = Gateway.in_thread(
    port=0, host="127.0.0.1", data=sys.argv[1], block_bytes=4096, segment_bytes=4096, ring=10, publish_timeout=60
)
print(gateway.url, flush=True)
sys.stdin.readline()
"""
ENDS = {
    "the end": ("simulate()", 0, "finished"),
    "an exit": ("simulate(); raise SystemExit(3)", 3, "finished"),
    "an error": ("simulate(); 1 / 0", 1, "failed"),
    "another thread's end": ("threading.Thread(target=look_and_simulate).start()", 0, "finished"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_script_that_ends_without_closing_keeps_every_tick(tmp_path: Path, end: str) -> None:
    """And tells its readers."""
    code, status, reason = ENDS[end]
    with Running([sys.executable, "-c", AT_EXIT + code, tmp_path / "history"], stdin=True) as script:
        found = script.stdout.find(r"http://127.0.0.1:(\d+)/")
        assert found is not None, script.report()
        follower = Follower(int(found[1]), "/ndjson?hello=1")
        script.feed([""])
        assert script.wait() == status, script.report()
        assert follower.lines.wait(lambda lines: bool(lines) and f'"reason":"{reason}"' in lines[-1])
        follower.close()
    assert len(history_files.lines(tmp_path / "history", "A")) == 1000
    assert script.stdout.lines[1:] == (["21"] if "thread" in end else [])
    said = [line for line in script.stderr.lines if not line.startswith("history")]  # that a busy machine's disk lags
    assert not said or "ZeroDivisionError" in said[-1], script.report()


@pytest.mark.parametrize("kept", [False, True])
def test_readers_that_waited_get_what_was_published_last(tmp_path: Path, kept: bool) -> None:
    """Those that waited for the first tick, and one whose stream ends after some ticks, as well as those at the tip."""
    gateway = here(data=tmp_path if kept else "").start()
    paths = ["/ndjson?hello=1", "/ndjson?hello=1&limit=9", "/ndjson?hello=1&from_t=-1"]
    followers = [Follower(port_of(gateway), path) for path in paths]
    for t in range(3):
        gateway.publish({"t": t})
    gateway.close()
    for follower in followers:
        assert follower.lines.wait(lambda lines: bool(lines) and '"reason":"finished"' in lines[-1])
        follower.wait_for(f'{{"t":{t}}}' for t in range(3))
        follower.close()


@pytest.mark.parametrize("make", [asyncio.new_event_loop, loop_factory()], ids=["asyncio", "ours"])
def test_a_loop_that_was_closed_under_a_mounted_one(make: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Without a shutdown of its application, as in a program that gave up."""
    gateway, app = here(), web.Application()
    gateway.mount(app)
    loop = make()
    loop.run_until_complete(web.AppRunner(app).setup())
    assert gateway.publish({"t": 1})
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    for t in (2, 3):
        with pytest.raises(NotServing, match="loop that the gateway ran on is closed"):
            gateway.publish({"t": t})


# ---- the bus underneath ----


def test_a_bus_that_is_closed_wakes_who_waits_for_room() -> None:
    bus = TickBus(Settings(inbox=1, publish_timeout=PATIENCE))
    bus.open()  # for a loop that is still to come
    bus.publish({"t": 1})
    failed = list[Exception]()

    def publish() -> None:
        try:
            bus.publish({"t": 2})
        except NotServing as error:
            failed.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    bus.close(lambda: NotServing("over"))
    thread.join(PATIENCE)
    assert [str(error) for error in failed] == ["over"]
    assert bus.dropped == 0


# ---- what it tells of itself ----


def test_repr_tells_address_and_state() -> None:
    gateway = here()
    assert repr(gateway) == "<Gateway not started>"
    with gateway:
        assert repr(gateway) == f"<Gateway {gateway.url} serving>"
    assert repr(gateway) == f"<Gateway {gateway.url} closed>"
    mounted = here()
    mounted.mount(web.Application(), "deep/ticks/")
    assert repr(mounted) == "<Gateway below /deep/ticks waiting for its application>"
    assert repr(not_started()).startswith("<Gateway failed: port: cannot listen on 127.0.0.1")


def test_wait() -> None:
    gateway = here().start()
    assert gateway.wait(0) is gateway.wait(0.01) is False
    threading.Timer(0.05, gateway.close).start()
    assert gateway.wait() is gateway.wait(0) is True
    with pytest.raises(NotServing, match="nothing to wait for: <Gateway not started>"):
        here().wait()


WAITING = """
from tick_gateway import Gateway
with Gateway(port=0, host="127.0.0.1") as gateway:
    gateway.publish({"t": 1})
    wait = gateway._over.wait
    gateway._over.wait = lambda seconds: (print("waits", flush=True), wait(seconds))[1]
    print(gateway.wait())
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent Ctrl-C there")
def test_ctrl_c_ends_a_wait() -> None:
    with Running([sys.executable, "-c", WAITING]) as script:
        assert script.stdout.find("waits"), script.report()
        script.process.send_signal(signal.SIGINT)
        assert script.wait() == 0, script.report()
    assert script.stdout.lines[-2:] == ["False", "done"]
    assert script.stderr.text == ""


def test_a_port_that_an_earlier_gateway_of_this_process_has() -> None:
    with here() as earlier:
        port = port_of(earlier)
        with pytest.raises(SettingError) as refused:
            Gateway.in_thread(host="127.0.0.1", port=port)
        assert refused.value.name == "port"
        assert f"in use: {earlier!r} of this process has it; close() that one first" in str(refused.value)
    with Gateway.in_thread(host="127.0.0.1", port=port):
        pass


def test_a_history_that_an_earlier_gateway_of_this_process_has(tmp_path: Path) -> None:
    with here(data=tmp_path / "history") as earlier:
        with pytest.raises(Locked) as refused:
            here(data=tmp_path / "there" / ".." / "history")
        assert f"in use by process {os.getpid()}: {earlier!r} of this process has it; close() that" in str(
            refused.value
        )
    unbegun = here(data=tmp_path / "history")
    with pytest.raises(Locked, match="<Gateway not started> of this process has it"):
        here(data=tmp_path / "history")
    unbegun.close()
    with here(data=tmp_path / "history"):
        pass


def test_close_on_the_gateway_s_own_thread() -> None:
    gateway = here().start()
    called = threading.Event()
    assert gateway._loop is not None

    def close() -> None:
        gateway.close()
        called.set()

    gateway._loop.call_soon_threadsafe(close)
    assert called.wait(20.0), "it waits for itself"
    assert gateway.wait(20.0)
    assert gateway.state == "closed"


def test_close_for_no_reason_that_there_is() -> None:
    with here() as gateway:
        with pytest.raises(
            SettingError, match="^reason: 'done' is not accepted; accepted: finished, failed, shutdown$"
        ):
            gateway.close("done")  # type: ignore[arg-type]
        assert gateway.publish({"t": 1})


# ---- a named run that is stored already ----


def test_advice_where_a_named_run_meets_its_stored_ticks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "tick_gateway")
    for life in range(2):
        with here(data=tmp_path, ring=5) as gateway:
            for t in range(20):
                assert gateway.publish({"t": t}, run="seed-42") is (life == 0)
            assert gateway.publish({"t": 20}, run="seed-42") is (life == 0)
            if life:
                with pytest.raises(Conflict, match="stored by an earlier process, up to tick 20: .*another name"):
                    gateway.publish({"t": 20, "x": 1}, run="seed-42")
                gateway.publish({"t": 21}, run="seed-42")
                with pytest.raises(Conflict, match="the first stands$"):
                    gateway.publish({"t": 21, "x": 1}, run="seed-42")
                gateway.publish({"t": 0}, run="other")
                with pytest.raises(RunClosed, match="name a new run"):
                    gateway.publish({"t": 22}, run="seed-42")
    [told] = [record.getMessage() for record in caplog.records if record.name == "tick_gateway"]
    assert told.startswith("run seed-42 is stored already, up to tick 20: ")


# ---- mounted, without the slash ----


async def test_the_address_without_its_slash_leads_to_the_one_with_it() -> None:
    app, one, two = web.Application(), here(), here()
    one.mount(app, "/ticks")
    two.mount(app, "/deep/two/")
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        one.publish({"t": 1})
        two.publish({"t": 2})
        for path, to, t in (("/ticks", "ticks/?limit=1", 1), ("/deep/two", "two/?limit=1", 2)):
            async with client.get(f"{path}?limit=1", allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (307, to)
                assert to in await answer.text()
            async with client.head(f"{path}?limit=1", allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (307, to)
            async with client.get(f"{path}?limit=1") as answer:
                assert json.loads(await answer.content.readline()) == {"t": t}
        for answer in (await client.post("/ticks", data=b'{"t":3}'), await client.get("/tick")):
            assert answer.status == 404

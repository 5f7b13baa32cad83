"""A gateway and other processes: what is forked from it, what it is handed to, and how these publish."""

from __future__ import annotations

import concurrent.futures
import copy
import inspect
import json
import multiprocessing
import os
import pickle
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tick_gateway import Gateway, errors
from tick_gateway.errors import GatewayError, Locked, WrongProcess

from ..support.blocking_client import Follower, port_of
from ..support.gateway_process import PATIENCE, ROOT, Running
from ..support.markdown import DOCS, Block, blocks

forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")


def in_fork(work: Callable[[], object]) -> Any:
    """What a forked child's work gave, or the error that it raised: its name and sentence."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        told: Any = None
        try:
            told = work()
        except BaseException as error:
            told = [type(error).__name__, str(error)]
        finally:
            os.write(writer, json.dumps(told).encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text)


# ---- forked ----


@forking
def test_a_forked_child_is_told_that_nobody_reads_what_it_publishes() -> None:
    with Gateway.in_thread(host="127.0.0.1", port=0) as gateway:
        gateway.publish({"t": 1})
        for work in (
            lambda: gateway.publish({"t": 2}),
            lambda: gateway.publish(b'{"t":1}', run="x"),
            lambda: gateway.runtime.bus.publish({"t": 2}),
            gateway.end_run,
            gateway.start,
        ):
            name, said = in_fork(work)
            assert name == "WrongProcess"
            assert f"send ticks to {gateway.url}publish from there, or hand them to the process" in said
        assert in_fork(lambda: repr(gateway)) == f"<Gateway {gateway.url} in another process>"
        assert in_fork(gateway.close) is None
        gateway.publish({"t": 2})  # the parent's goes on
        assert gateway.runtime.bus.published == 2


@forking
def test_a_fork_while_other_threads_publish_never_hangs() -> None:
    """The lock may be held at the moment of the fork, by a thread that the child has not."""
    with Gateway.in_thread(host="127.0.0.1", port=0, publish_timeout=10.0) as gateway:
        gateway.runtime.bus._lock.acquire()
        try:
            name, _ = in_fork(lambda: gateway.runtime.bus.publish({"t": 1}))
        finally:
            gateway.runtime.bus._lock.release()
        assert name == "WrongProcess"


@forking
def test_a_forked_child_holds_neither_port_nor_readers_nor_history(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    gateway = Gateway.in_thread(host="127.0.0.1", port=0, data=tmp_path)
    follower = Follower(port_of(gateway))
    idle = socket.create_connection(("127.0.0.1", port_of(gateway)))
    idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert idle.recv(1000).startswith(b"HTTP/1.1 200")
    child = os.fork()
    if child == 0:  # lives until the parent lets it go
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    try:
        gateway.publish({"t": 1})
        gateway.close()
        assert follower.lines.wait(lambda lines: bool(lines) and '"reason":"finished"' in lines[-1])
        follower.wait_for(['{"t":1}'])
        follower.close()
        idle.settimeout(PATIENCE)
        while idle.recv(1000):
            pass  # its end comes, though the child lives
        with Gateway.in_thread(host="127.0.0.1", port=port_of(gateway), data=tmp_path) as again:
            again.publish({"t": 2})
    finally:
        os.close(writer)
        os.waitpid(child, 0)
        os.close(reader)
        idle.close()


@forking
def test_one_that_has_not_begun_may_begin_in_each_child(tmp_path: Path) -> None:
    """As servers do that fork their workers; but not where it holds a history, which is one process's own."""
    gateway = Gateway(host="127.0.0.1", port=0)
    assert in_fork(lambda: gateway.start().publish({"t": 1})) is True
    with gateway:
        assert gateway.publish({"t": 1})
    with Gateway(host="127.0.0.1", port=0, data=tmp_path) as pipeline:
        assert pipeline.state == "serving"
    unbegun = Gateway(host="127.0.0.1", port=0, data=tmp_path)
    assert in_fork(unbegun.start)[0] == "WrongProcess"
    with pytest.raises(Locked):
        Gateway(data=tmp_path)
    with unbegun:
        unbegun.publish({"t": 2})


@forking
def test_a_pool_of_forked_workers_tells_the_error() -> None:
    """It comes back to the parent as what it is."""
    with Gateway.in_thread(host="127.0.0.1", port=0) as gateway:
        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(1, context, _inherit, (gateway.publish,)) as pool:
            refused = pool.submit(_publish_inherited, {"t": 1}).exception(PATIENCE)
        assert isinstance(refused, WrongProcess)
        assert f"send ticks to {gateway.url}publish" in str(refused)


_inherited: list[Callable[[object], bool]] = []


def _inherit(publish: Callable[[object], bool]) -> None:
    _inherited.append(publish)


def _publish_inherited(record: object) -> bool:
    return _inherited[0](record)


# ---- the ways that work, as the how-to shows them ----

POOL, CHILD = blocks(DOCS / "how-to" / "multiprocessing.md", "python")


def script_of(block: Block, folder: Path, method: str) -> Running:
    """A block of the how-to, as a file: a spawned child imports it."""
    assert block.text.count("port=8000") == block.text.count('"spawn"') == 1
    text = block.text.replace("port=8000", 'port=0, host="127.0.0.1"').replace('"spawn"', repr(method))
    path = folder / "simulation.py"
    path.write_text(
        text.replace("gateway.publish(tick)", "gateway.publish(tick); print(gateway.runtime.bus.published)")
    )
    return Running([sys.executable, "-W", "ignore::DeprecationWarning", path], env={"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_compute_and_one_process_publishes(tmp_path: Path, method: str) -> None:
    with script_of(POOL, tmp_path, method) as script:
        assert script.wait() == 0, script.report()
    assert script.stdout.lines == [str(number + 1) for number in range(1000)]
    assert script.stderr.text == ""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_child_publishes_to_the_address(tmp_path: Path, method: str) -> None:
    with script_of(CHILD, tmp_path, method) as script:
        assert script.wait() == 0, script.report()
    assert script.stdout.lines == ["seed-42:999"]
    assert script.stderr.text == ""


# ---- handed over ----


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy, lambda one: pickle.dumps(one.publish)])
def test_a_gateway_is_not_handed_to_another_process(how: Callable[[Gateway], object]) -> None:
    with Gateway.in_thread(host="127.0.0.1", port=0) as gateway:
        with pytest.raises(WrongProcess, match="cannot be handed to another process") as refused:
            how(gateway)
        assert f"send ticks to {gateway.url}publish" in str(refused.value)
    with pytest.raises(WrongProcess, match="send ticks to its address"):
        how(Gateway())


@pytest.mark.parametrize("method", [name for name in multiprocessing.get_all_start_methods() if name != "fork"])
def test_starting_a_process_with_a_gateway_says_the_way(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with Gateway.in_thread(host="127.0.0.1", port=0) as gateway, pytest.raises(WrongProcess, match="send ticks to"):
        context.Process(target=print, args=(gateway,)).start()


SAMPLES: dict[str, object] = {"str": "no", "int": 7, "float": 0.5, "bool": True, "Sequence": ["gzip"]}
"""Arguments by their types."""


def made(kind: type[GatewayError]) -> GatewayError:
    """An error of this kind, from whatever its constructor takes."""
    if kind.__init__ is Exception.__init__:
        return kind("no")
    parameters = [one for one in inspect.signature(kind).parameters.values() if one.name != "self"]
    values = {one.name: SAMPLES[re.split(r"[\[ ]", str(one.annotation))[0]] for one in parameters}
    return kind(**values)


KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GatewayError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_comes_through_a_pool_of_processes(kind: type[GatewayError]) -> None:
    """Those that take more than a sentence, too: a pool whose worker raises what cannot be unpickled waits for ever."""
    error = made(kind)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))
    assert back.as_dict() == error.as_dict()

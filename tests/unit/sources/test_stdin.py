"""`tick-gateway serve --stdin`, as a simulation's pipe."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any
from urllib.request import urlopen

import pytest

from tests.support.blocking_client import Follower, ask, request
from tests.support.gateway_process import ROOT, GatewayProcess, publish, resident


def get(gateway: GatewayProcess, path: str) -> Any:
    with urlopen(gateway.url + path, timeout=60) as response:
        return json.loads(response.read())


def test_every_line_is_a_tick() -> None:
    with GatewayProcess("serve", "--stdin", stdin=True) as gateway:
        follower = Follower(gateway.port)
        lines = [f'{{"t": {t}, "x": "{"é" * (t % 7)}"}}' for t in range(2000)]
        gateway.feed(lines[:1])
        follower.wait_for(lines[:1])
        gateway.feed(lines[1:])
        follower.wait_for(lines)
        follower.close()


def test_a_falling_t_begins_a_run() -> None:
    with GatewayProcess("serve", "--stdin", stdin=True) as gateway:
        follower = Follower(gateway.port)
        lines = [f'{{"t":{t}}}' for t in (0, 1, 2, 0, 1, 5, 6, 5, 6, 7)]
        gateway.feed(lines)
        follower.wait_for(lines)
        notices = [json.loads(line) for line in follower.lines.lines if line.startswith('{"notice"')]
        resets = [notice for notice in notices if notice["notice"] == "reset"]
        assert [reset["complete"] for reset in resets] == [True, True]
        runs = get(gateway, "/runs")["runs"]
        assert [(run["first"], run["last"], run["count"], run["ended"]) for run in runs] == [
            (0, 2, 3, True),
            (0, 6, 4, True),
            (5, 7, 3, False),
        ]
        follower.close()


def test_bad_lines_are_named_and_passed_over() -> None:
    bad = {
        2: "nonsense",
        4: "[1]",
        5: "{}",
        6: '{"t":-1}',
        7: '{"t":1.5}',
        8: '{"t":9007199254740992}',
        9: '{"t":2,"x":NaN}',
        10: '{"t":1,"x":"another"}',
        12: '{"t":2,"x":"' + "x" * 2000 + '"}',
        13: "",
    }
    good = {1: '{"t":0}', 3: '{"t":1}', 11: '{"t":2}', 14: '{"t":3}'}
    with GatewayProcess("serve", "--stdin", "--max-tick", "1000", stdin=True) as gateway:
        follower = Follower(gateway.port)
        gateway.feed(text for _, text in sorted((bad | good).items()))
        follower.wait_for(good.values())
        assert gateway.stderr.find("^standard input, line 12: "), gateway.report()
        told = [line for line in gateway.stderr.lines if line.startswith("standard input")]
        named = [int(found[1]) for line in told if (found := re.match(r"standard input, line (\d+): .{10}", line))]
        assert named == sorted(set(bad) - {13})  # a blank line is none
        assert len(told) == len(named)
        follower.close()


def test_the_same_tick_again_is_passed_over() -> None:
    with GatewayProcess("serve", "--stdin", stdin=True) as gateway:
        gateway.feed(['{"t":1}', '{"t":1}', '{"t":2}'])
        follower = Follower(gateway.port, "/ndjson?from_t=-1&hello=1")
        follower.wait_for(['{"t":1}', '{"t":2}'])
        follower.close()


def test_the_gateway_goes_on_after_the_end() -> None:
    with GatewayProcess("serve", "--stdin", stdin=True) as gateway:
        follower = Follower(gateway.port)
        assert gateway.process.stdin is not None
        gateway.process.stdin.write(b'{"t":1}\n{"t":2}')  # no newline at the end
        gateway.close_stdin()
        follower.wait_for(['{"t":1}', '{"t":2}'])
        assert get(gateway, "/latest") == {"t": 2}
        assert gateway.process.poll() is None
        follower.close()


def test_its_end_is_the_end_of_its_run_and_lets_others_publish() -> None:
    with GatewayProcess("serve", "--stdin", stdin=True) as gateway:
        follower = Follower(gateway.port)
        gateway.feed(['{"t":1}', '{"t":2}'])
        follower.wait_for(['{"t":1}', '{"t":2}'])
        run = get(gateway, "/meta")["run"]
        one_run = Follower(gateway.port, f"/ndjson?hello=1&run={run}")
        one_run.wait_for(['{"t":1}', '{"t":2}'])
        refused = ask(gateway.port, request("POST", "/publish", {}, b'{"t":9}'))
        assert (refused.status, refused.json()["error"]) == (409, "own_source")
        assert "write them there, or publish to a gateway without --stdin" in refused.json()["message"]

        gateway.close_stdin()
        assert one_run.lines.wait(lambda lines: '"reason":"run"' in lines[-1])
        assert gateway.stderr.find(f"standard input has ended, and run {run} with it"), gateway.report()
        publish(gateway.url, ['{"t":9}'])
        follower.wait_for(['{"t":1}', '{"t":2}', '{"t":9}'])
        runs = get(gateway, "/runs")["runs"]
        assert [(one["last"], one["ended"]) for one in runs] == [(2, True), (9, False)]
        follower.close()
        one_run.close()


def test_json_over_several_lines() -> None:
    with GatewayProcess("serve", "--stdin", stdin=True) as gateway:
        follower = Follower(gateway.port)
        gateway.feed(["[", '{"t":1,', '"x":2},', "3,"])
        follower.wait_for(['{"t":1, "x":2}'])  # the array goes on
        gateway.feed(['{"t":2}'])
        gateway.close_stdin()
        follower.wait_for(['{"t":1, "x":2}', '{"t":2}'])
        assert gateway.stderr.find("standard input, line 4: a tick is a JSON object, this is the number 3")
        assert gateway.stderr.find("standard input cannot be read on: the array breaks off")
        follower.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_line_without_end_does_not_fill_memory() -> None:
    with GatewayProcess("serve", "--stdin", "--max-tick", "1000", stdin=True) as gateway:
        follower = Follower(gateway.port)
        before = resident(gateway.process.pid)
        for _ in range(300):
            gateway.feed(["x" * 99_999, "x" * 99_999])
        assert gateway.process.stdin is not None
        for _ in range(30):
            gateway.process.stdin.write(b"x" * 1_000_000)
        gateway.feed(["", '{"t":1}'])
        follower.wait_for(['{"t":1}'])
        assert resident(gateway.process.pid) - before < 20_000_000
        follower.close()


def test_a_publisher_is_held_up_rather_than_lost() -> None:
    """A small inbox: the pipe waits, and no tick is dropped."""
    with GatewayProcess("serve", "--stdin", "--inbox", "10", stdin=True) as gateway:
        follower = Follower(gateway.port)
        lines = [f'{{"t":{t}}}' for t in range(300)]
        gateway.feed(lines)
        follower.wait_for(lines)
        assert get(gateway, "/healthz")["dropped"] == 0
        follower.close()


def test_standard_input_that_is_closed() -> None:
    command = f'exec "{sys.executable}" -m tick_gateway serve --port 0 --stdin <&-'
    with subprocess.Popen(command, shell=True, cwd=ROOT, stderr=subprocess.PIPE, text=True) as gateway:
        assert gateway.stderr is not None
        seen = ""
        try:
            while "standard input" not in seen:
                line = gateway.stderr.readline()
                assert line, seen
                seen += line
            gateway.terminate()
            seen += gateway.stderr.read()
            assert gateway.wait(60) == 0
        finally:
            gateway.kill()
    assert "Traceback" not in seen

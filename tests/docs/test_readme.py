"""What the README, the tutorial and the how-tos show is run as it stands, addresses and waiting times apart."""

import json
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.support import needs
from tests.support.gateway_process import PATIENCE, ROOT, GatewayProcess, Running
from tests.support.markdown import DOCS, Block, blocks

README = ROOT / "README.md"
TUTORIAL = DOCS / "tutorial.md"
PUBLISH = DOCS / "how-to" / "publish.md"
EMBED = DOCS / "how-to" / "embed.md"
TOKEN = "choose-a-long-one"

COMMAND = f"{shlex.quote(sys.executable)} -m tick_gateway"
ENDLESS = re.compile(r"curl -N|tick-gateway cat(?!.*--limit)")


def shell(page: Path, word: str = "") -> list[str]:
    """The commands of a page that hold a word."""
    return [line for block in blocks(page, "sh") for line in block.commands() if word in line]


def filled_in(text: str, url: str) -> str:
    """Text of a page with the address of a gateway that is there."""
    address = url.removeprefix("http://")
    return re.sub(r"(?:localhost|GATEWAY):8000", address, text).replace("tick-gateway ", f"{COMMAND} ")


def run(command: str, url: str) -> str:
    """Runs a command of a page and gives what it printed; one without end is ended after its first tick."""
    if "curl" in command:
        needs.program("curl")
    line = filled_in(command, url)
    if ENDLESS.search(command):
        with Running(shlex.split(line, comments=True)) as process:
            assert process.stdout.find('"t":'), process.report()
            return process.stdout.text
    with Running(["bash", "-o", "pipefail", "-c", line]) as process:
        assert process.wait() == 0, process.report()
        return process.stdout.text


def python(block: Block, url: str) -> Running:
    return Running([sys.executable, "-c", filled_in(block.text, url)], env={"PYTHONPATH": str(ROOT)})


def fetch(url: str) -> Any:
    with urlopen(url, timeout=PATIENCE) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def demo() -> Iterator[GatewayProcess]:
    with GatewayProcess("demo", "--rate", "50", "--agents", "3") as process:
        yield process


@pytest.fixture(scope="module")
def server() -> Iterator[GatewayProcess]:
    with GatewayProcess("serve") as process:
        yield process


READING = [line for line in shell(README, "localhost:8000") if "publish" not in line]
PUBLISHING = [line for line in shell(README, "localhost:8000") if "publish" in line]


def test_the_readme_shows_each_kind() -> None:
    assert len(READING) >= 6 and len(PUBLISHING) >= 3
    assert {"make run", "make test"} <= set(shell(README))
    makefile = (ROOT / "Makefile").read_text()
    assert re.search("^run:", makefile, re.MULTILINE) and re.search("^test:", makefile, re.MULTILINE)


@pytest.mark.parametrize("command", READING, ids=lambda command: command.partition("#")[2].strip())
def test_reading_as_the_readme_says(demo: GatewayProcess, command: str) -> None:
    printed = run(command, demo.url)
    if "/meta" in command:
        assert json.loads(printed)["rate"] > 0
        return
    assert '"t":' in printed and "agents" in printed
    if "fields=agents.x" in command:
        assert '"x"' in printed and '"y"' not in printed


def test_publishing_as_the_readme_says(server: GatewayProcess) -> None:
    for command, tip in zip(PUBLISHING, (1, 3, 5), strict=True):
        run(command, server.url)
        assert fetch(f"{server.url}/latest") == {"t": tip, **({"temperature": 21.5} if tip == 1 else {})}


def test_the_script_of_the_readme() -> None:
    """Runs it in a thread of this process; its steps wait until a reader is there."""
    [block] = blocks(README, "python")
    assert block.text.count("time.sleep(0.05)") == block.text.count("port=8000") == 1
    stepping, reading, failed = threading.Event(), threading.Event(), list[BaseException]()

    def step() -> None:
        stepping.set()
        reading.wait(PATIENCE)

    names: dict[str, Any] = {"step": step}

    def script() -> None:
        try:
            text = block.text.replace("time.sleep(0.05)", "step()").replace("port=8000", "port=0")
            exec(compile(text, str(block), "exec"), names)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=script)
    thread.start()
    assert stepping.wait(PATIENCE), failed
    with urlopen(f"{names['gateway'].url}ndjson?from_t=-1&hello=1", timeout=PATIENCE) as answer:
        assert json.loads(answer.readline())["notice"] == "hello"
        reading.set()
        lines = [json.loads(line) for line in answer if line.strip()]
    thread.join(PATIENCE)
    assert not failed, failed
    assert lines[0]["notice"] == "hello", "the run has its name now"
    assert [line["t"] for line in lines[1:-1]] == list(range(100))
    assert lines[-1]["reason"] == "finished"


@pytest.mark.parametrize("command", shell(DOCS / "reference" / "command-line.md", "localhost:8000"))
def test_the_command_line_as_its_page_says(command: str, tmp_path: Path) -> None:
    file = tmp_path / "ticks.ndjson"
    file.write_text('{"t":40}\n{"t":41}\n')
    with GatewayProcess("demo" if " cat " in command else "serve") as gateway:
        printed = run(command.replace(file.name, str(file)), gateway.url)
        assert printed.count('"t":') == (5 if " cat " in command else 0)


# ---- the tutorial ----


def test_the_tutorial(tmp_path: Path) -> None:
    alone, published = blocks(TUTORIAL, "python")
    assert len(alone.text.splitlines()) <= 20 and len(published.text.splitlines()) <= 20
    path = {"PYTHONPATH": str(ROOT)}
    script = tmp_path / "walk.py"
    script.write_text(alone.text.replace("0.1)", "0.01)"))
    with Running([sys.executable, script], env=path) as walk:
        assert walk.stdout.find(r"^3 \{'id': 0"), walk.report()

    assert published.text.count("port=8000") == 1
    script.write_text(published.text.replace("port=8000", 'port=0, host="127.0.0.1"').replace("0.1)", "0.01)"))
    with Running([sys.executable, script], env=path) as walk:
        opened = walk.stdout.find(r"^open (http://127.0.0.1:\d+)/$")
        assert opened is not None, walk.report()
        commands = [line for line in shell(TUTORIAL, "localhost:8000") if "publish" not in line]
        assert len(commands) >= 8
        with urlopen(f"{opened[1]}/ndjson?tail=0&limit=10", timeout=PATIENCE) as answer:
            answer.read()  # by then the walk has taken the steps that the commands ask for
        run(commands[0], opened[1])
        printed = {command: run(command, opened[1]) for command in commands}
        [pull] = [text for command, text in printed.items() if "from_t=5&limit=3" in command]
        assert [tick["t"] for tick in json.loads(pull)] == [6, 7, 8]
        for command, text in printed.items():
            first = re.search(r'"t":(\d+)', text)
            if ("-N" in command and "from_t=5" in command) or "--from 5" in command:
                assert first is not None and int(first[1]) == 6, command
            if "every=10" in command:
                assert first is not None and int(first[1]) % 10 == 0, command

    with GatewayProcess("serve") as gateway:
        for command in shell(TUTORIAL, "publish"):
            run(command, gateway.url)
        assert [run["last"] for run in fetch(f"{gateway.url}/runs")["runs"]] == [0, 3]


# ---- the how-tos ----


def test_publishing_as_the_how_to_says(server: GatewayProcess, tmp_path: Path) -> None:
    post, compressed, socket = blocks(PUBLISH, "python")
    commands = [line for line in shell(PUBLISH, "localhost:8000") if "/end" not in line]
    assert len(commands) == 8
    file = tmp_path / "ticks.ndjson"
    file.write_text('{"t":40}\n{"t":41}\n')
    for command, tip in zip(commands, (1, 41, 10, 12, 14, 21, 31, 41), strict=True):
        command = command.replace(file.name, str(file))
        run(command, server.url)
        assert fetch(f"{server.url}/latest")["t"] == tip, command
    needs.module("requests")
    for block, name in ((post, "by-post"), (compressed, "compressed"), (socket, "by-websocket")):
        for _ in range(2):  # the second time, all of it is there already
            with python(block, server.url) as process:
                assert process.wait() == 0, process.report()
        [known] = [run for run in fetch(f"{server.url}/runs")["runs"] if run["run"] == name]
        assert (known["count"], known["last"]) == (100, 99)
    [end] = shell(PUBLISH, "/end")
    assert json.loads(run(end, server.url)) == {"run": "by-post", "ended": True, "tip": 99}


def test_publishing_with_a_token() -> None:
    start, curl, pipe = [line for line in shell(PUBLISH) if TOKEN in line]
    assert shlex.split(start) == [f"TICK_GATEWAY_PUBLISH_TOKEN={TOKEN}", "tick-gateway", "serve"]
    with GatewayProcess("serve", env={"TICK_GATEWAY_PUBLISH_TOKEN": TOKEN}) as gateway:
        run(curl, gateway.url)
        assert fetch(f"{gateway.url}/latest") == {"t": 1}
        run(pipe.replace("./simulation", "echo '{\"t\":7}'"), gateway.url)
        assert fetch(f"{gateway.url}/latest") == {"t": 7}
        without = curl.replace(f"-H 'Authorization: Bearer {TOKEN}'", "")
        assert json.loads(run(without, gateway.url))["error"] == "not_allowed"


def test_a_post_that_does_not_end(server: GatewayProcess) -> None:
    """Its lines are published while it goes on."""
    [command] = shell(PUBLISH, "curl -T -")
    curl = shlex.split(filled_in(command.partition("|")[2], server.url))
    with Running([*curl, "-H", "Tick-Run: endless"], stdin=True) as process:
        for t in range(3):
            process.feed([f'{{"t":{t}}}'])
            answer = fetch(f"{server.url}/poll?run=endless&last_t=endless:{t - 1}") if t else None
            while answer is None:  # the run is not there before its first tick
                current = fetch(f"{server.url}/poll?tail=1&stamp=1")
                answer = current if current["data"]["run"] == "endless" else None
        process.close_stdin()
        assert process.wait() == 0, process.report()
        assert json.loads(process.stdout.text)["accepted"] == 3


def embedded() -> tuple[Block, Block, Block]:
    first, _, errors, mounted = blocks(EMBED, "python")
    return first, errors, mounted


def test_a_gateway_in_a_script() -> None:
    for block in embedded()[:2]:
        text = block.text.replace("port=8000", "port=0")
        with Running([sys.executable, "-c", text], env={"PYTHONPATH": str(ROOT)}) as process:
            assert process.wait() == 0, process.report()
    said = re.search(r"# (raw: .*)", embedded()[1].text)
    assert said is not None and process.stdout.lines == [said[1]]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM there")
def test_a_container_that_is_stopped() -> None:
    """The lines that turn SIGTERM into an exit, and a program that would never end."""
    first, term = blocks(EMBED, "python")[:2]
    endless = first.text.replace("port=8000", 'port=0, host="127.0.0.1"').replace("range(1000)", "range(1 << 40)")
    endless = endless.replace("    for t", "    print(gateway.url, flush=True)\n    for t")
    with Running([sys.executable, "-c", term.text + endless], env={"PYTHONPATH": str(ROOT)}) as process:
        said = process.stdout.find(r"(http://127.0.0.1:\d+)/")
        assert said is not None, process.report()
        with urlopen(f"{said[1]}/ndjson?lag=skip", timeout=PATIENCE) as answer:
            answer.readline()
            process.process.terminate()
            *_, last = (line for line in answer if line.strip())
        assert process.wait() == 0, process.report()
    assert json.loads(last)["reason"] == "shutdown"


def test_a_mounted_gateway() -> None:
    text = embedded()[2].text
    assert text.count("port=8000") == 1
    listening = 'sock=__import__("socket").create_server(("127.0.0.1", 0))'
    with Running(
        [sys.executable, "-c", text.replace("port=8000", listening)], env={"PYTHONPATH": str(ROOT)}
    ) as process:
        said = process.stdout.find(r"Running on (http://127.0.0.1:\d+)")
        assert said is not None, process.report()
        url = f"{said[1]}/ticks"
        with urlopen(f"{url}/ndjson?limit=3", timeout=PATIENCE) as answer:
            lines = [json.loads(line) for line in answer]
        assert [line.get("notice") for line in lines] == [None, None, None, "end"]
        assert fetch(f"{url}/meta")["tip"] >= 2
        assert process.terminate() in (0, -15), process.report()
        assert "Traceback" not in process.stderr.text, process.report()

"""What the how-tos for frameworks and tools show is run as it stands, ports and step counts apart."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import sys
import types
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.support import needs
from tests.support.gateway_process import PATIENCE, ROOT, Running, free_ports
from tests.support.markdown import DOCS, Block, blocks
from tick_gateway import Gateway

HOW_TO = DOCS / "how-to"
PATH = {"PYTHONPATH": str(ROOT)}


def python(page: str) -> list[Block]:
    return blocks(HOW_TO / page, "python")


def test_flask() -> None:
    needs.module("flask")
    [block] = python("flask.md")
    own, flask = free_ports(2)
    text = block.text.replace("8001", str(own)).replace("5000", str(flask))
    assert text.count(str(own)) == 2
    with Running([sys.executable, "-c", text], env=PATH) as process:
        assert process.stderr.find(rf"Running on http://127\.0\.0\.1:{flask}"), process.report()
        with urlopen(f"http://127.0.0.1:{flask}/ticks/", timeout=PATIENCE) as answer:  # led on to the stream
            assert answer.url == f"http://127.0.0.1:{own}/"
            assert "agents" in json.loads(answer.readline())
        page = Request(f"http://127.0.0.1:{flask}/ticks/poll?last_t=0", headers={"Accept": "*/*"})
        with urlopen(page, timeout=PATIENCE) as answer:
            assert json.load(answer)["t"] > 0


def third_tick(gateway: Gateway) -> Any:
    """Waits until the simulation in the notebook's thread has published it."""
    with urlopen(f"{gateway.url}poll?last_t=slow:1&run=slow", timeout=PATIENCE) as answer:
        return json.load(answer)


def test_a_notebook() -> None:
    """Its cells run one after the other while a loop runs, as a kernel has it; the first one twice."""
    cells = python("notebook.md")
    assert len(cells) == 5
    shown, names = list[Any](), dict[str, Any]()
    display = types.ModuleType("IPython.display")
    display.IFrame = lambda url, **size: (url, size)  # type: ignore[attr-defined]

    def run(cell: Block) -> None:
        """As a kernel does: the value of a last expression is shown."""
        tree = ast.parse(cell.text.replace("port=8000", 'port=0, host="127.0.0.1"'))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(cell), "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), str(cell), "eval"), names)
            shown.append(repr(value) if isinstance(value, Gateway) else value)

    async def kernel() -> None:
        run(cells[0])
        first = names["gateway"]
        run(cells[0])
        assert (first.state, names["gateway"].state) == ("closed", "serving")
        for cell in cells[1:4]:
            run(cell)
        assert (await asyncio.to_thread(third_tick, names["gateway"]))["t"] == 2
        run(cells[4])

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
        patch.setitem(sys.modules, "IPython.display", display)
        asyncio.run(kernel())
    url = names["gateway"].url
    frame = (url, {"width": "100%", "height": 420})
    assert shown[1:] == [f"<Gateway {url} serving>", frame, None, f"<Gateway {url} closed>"]


def test_pytest(tmp_path: Path) -> None:
    [block] = python("pytest.md")
    (tmp_path / "test_simulation.py").write_text(block.text)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        tmp_path,
        tmp_path,
    ]
    with Running(command, env=PATH, cwd=tmp_path) as process:
        assert process.wait() == 0, process.report()
    assert re.search(r"^2 passed", process.stdout.lines[-1]), process.report()


LOOK = """
import json
from urllib.request import urlopen
with urlopen(gateway.url + "latest") as answer:
    tick = json.load(answer)
    print(json.dumps(tick)[:40])
    print(sorted(tick))
print(gateway.runtime.bus.published, gateway.runtime.bus.dropped, gateway.runtime.bus.tip.t)
"""


@pytest.mark.parametrize("name", ["mesa", "numpy"])
def test_a_program(name: str) -> None:
    """Looked at from the end of its ``with``."""
    needs.module(name)
    [block] = python(f"{name}.md")
    assert block.text.count("port=8000") == 1
    indent = "        " if "__main__" in block.text else "    "
    look = "".join(f"{indent}{line}\n" for line in LOOK.splitlines())
    text = block.text.replace("port=8000", 'port=0, host="127.0.0.1"') + look
    with Running([sys.executable, "-c", text], env=PATH) as process:
        assert process.wait() == 0, process.report()
    agents, members, counts = process.stdout.lines
    if name == "mesa":
        assert members == "['agents', 'farthest', 't']"
        assert counts == "101 0 100" and agents.startswith('{"t": 100, "agents": [{"id": 1, "x": ')
    else:
        assert counts == "100 0 99" and agents.startswith('{"t": 99, "agents": {"id": [0, 1, ')
    assert process.stderr.text == "", process.report()


def test_the_figures_for_numpy_can_be_made() -> None:
    """The command beside the table, in small, names what the table has."""
    [line] = [one for block in blocks(HOW_TO / "numpy.md", "sh") for one in block.commands()]
    command = [sys.executable, *line.replace("1000", "5").split()[1:], "--ticks", "3"]
    with Running(command, env=PATH) as process:
        assert process.wait() == 0, process.report()
    assert len(process.stdout.lines) == 12
    assert all(re.search(r" \d+ +\d+ +\d+$", line) for line in process.stdout.lines[1:])

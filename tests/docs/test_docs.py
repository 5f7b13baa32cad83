"""The docs tell what there is: all of it, and nothing else."""

import ast
import builtins
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway_process import ROOT
from tests.support.markdown import DOCS, Block, anchors, blocks, links, pages, prose
from tick_gateway import Gateway, errors, history, settings, sources, transports
from tick_gateway.cli import main as cli
from tick_gateway.model import notices, query
from tick_gateway.model.notices import NAMES
from tick_gateway.model.query import TABLE as PARAMETERS
from tick_gateway.server import metrics, openapi
from tick_gateway.server import routes as table_of_routes
from tick_gateway.server.metrics import render
from tick_gateway.server.routes import routes
from tick_gateway.settings import TABLE as SETTINGS
from tick_gateway.settings import SettingRow
from tick_gateway.sources import SOURCES, Source
from tick_gateway.transports import TRANSPORTS
from tick_gateway.transports.commands import COMMANDS
from tick_gateway.wire import codings

REFERENCE = DOCS / "reference"
PROTOCOL = (REFERENCE / "protocol.md").read_text("utf-8")
ALL = "\n".join(page.read_text("utf-8") for page in pages())
SOURCE = ROOT / "tick_gateway"


def table_rows(page: str) -> dict[str, list[str]]:
    """The rows of a page's tables by what stands first in them, in backquotes."""
    rows: dict[str, list[str]] = {}
    for line in (REFERENCE / page).read_text("utf-8").splitlines():
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for name in re.findall(r"`([^`]+)`", cells[0]) if cells else []:
            rows[name] = cells
    return rows


# ---- what there is, is told ----


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)
def test_settings(row: SettingRow) -> None:
    cells = table_rows("settings.md").get(row.flag)
    assert cells is not None, f"docs/reference/settings.md does not mention {row.flag}"
    assert cells[1] == f"`{row.variable}`"
    assert cells[2] == row.unit
    assert cells[3] == row.told


def test_no_setting_that_does_not_exist() -> None:
    flags = {row.flag for row in SETTINGS}
    names = {row.variable for row in SETTINGS}
    assert set(re.findall(r"TICK_GATEWAY_[A-Z_]+", ALL)) - {"TICK_GATEWAY_"} == names
    assert {name for name in table_rows("settings.md") if name.startswith("--")} == flags
    known = flags | {flag for _, options in commands() for option in options for flag in option}
    known |= {"--help", "--version", "--data-binary", "--compressed"}
    known |= {"--workers", "--timeout-graceful-shutdown", "--ws-per-message-deflate"}  # uvicorn's
    known |= {"--proxy-headers", "--forwarded-allow-ips"}
    known |= {"--threads", "--preload"}  # gunicorn's
    for page in pages():
        text = page.read_text("utf-8")
        mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "\n".join(in_code(text, "tick-gateway"))))
        assert mentioned <= known, f"{page.name} mentions {mentioned - known}"
        keywords = set(re.findall(r"\bsettings? `(\w+)`", text)) | set(gateway_keywords(page))
        assert keywords <= {row.name for row in SETTINGS}, f"{page.name} mentions {keywords}"


def gateway_keywords(page: Path) -> Iterator[str]:
    """The keywords with which the Python of a page makes gateways."""
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(unindented(block))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Gateway", "Gateway.in_thread", "Settings"):
                yield from (word.arg for word in node.keywords if word.arg)


def in_code(text: str, word: str) -> Iterator[str]:
    """Lines of shell that hold a word, and what stands in backquotes and begins with a dash."""
    yield from (line.partition(word)[2] for line in text.splitlines() if word in line and "#" not in line)
    yield from re.findall(r"`(--[a-z][^`]*)`", text)


def commands() -> list[tuple[str, list[list[str]]]]:
    """Each command of the command line, with the flags of each of its options."""
    return [
        (name, [list(option.opts) for option in command.params if isinstance(option, click.Option)])
        for name, command in cli.main.commands.items()
    ]


@pytest.mark.parametrize("name, options", commands(), ids=[name for name, _ in commands()])
def test_command_line(name: str, options: list[list[str]]) -> None:
    text = (REFERENCE / "command-line.md").read_text("utf-8")
    section = re.search(rf"^## {name}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None, f"docs/reference/command-line.md has no section {name}"
    settings = {row.flag for row in SETTINGS}
    told = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", section[1]))
    flags = {flag for option in options for flag in option} - settings
    assert flags - {"--help", "-h"} <= told, f"{name}: {flags - told} are not told"
    assert told <= flags | settings | {"--help", "-n"}, f"{name} has no {told - flags - settings}"


@pytest.mark.parametrize("row", PARAMETERS, ids=lambda row: row.name)
def test_parameters(row: object) -> None:
    assert getattr(row, "name") in table_rows("protocol.md")  # noqa: B009


@pytest.mark.parametrize("route", routes(), ids=lambda route: f"{route.method} {route.path}")
def test_routes(route: object) -> None:
    method, path = getattr(route, "method"), getattr(route, "path")  # noqa: B009
    told = [name.partition("?")[0] for name in table_rows("protocol.md")]
    assert f"{method} {path}" in told, f"the table of routes in docs/reference/protocol.md lacks {method} {path}"


def test_no_route_that_does_not_exist() -> None:
    told = {name.partition("?")[0] for name in table_rows("protocol.md") if re.match(r"(GET|POST) /", name)}
    assert told <= {f"{route.method} {route.path}" for route in routes()}


@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda transport: transport.name)
def test_transports(transport: object) -> None:
    path = getattr(transport, "path")  # noqa: B009
    assert f"`GET {path}`" in PROTOCOL
    assert f"`{path}`" in (ROOT / "README.md").read_text("utf-8"), "the README's table lacks it"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_sources(source: Source) -> None:
    """Flags and routes stand in the reference, as all do; the how-to for publishers has them, too."""
    text = (ROOT / "docs" / "how-to" / "publish.md").read_text("utf-8")
    for route in source.routes:
        assert re.search(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(route.path)), text), f"{route.path} is not told"
    if source.command:
        told = source.flag if source.command == "serve" else f"`{source.command}`"
        assert told in text, f"{told} is not told"


def test_metrics() -> None:
    text = render(Gateway().runtime).decode()
    given = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    told = set(re.findall(r"`(tick_gateway_\w+)`", (REFERENCE / "metrics.md").read_text("utf-8")))
    assert told == given


def kinds_of_errors(base: type[errors.GatewayError] = errors.GatewayError) -> Iterator[type[errors.GatewayError]]:
    """Every error of this package, wherever it is defined."""
    yield base
    for kind in base.__subclasses__():
        if kind.__module__.startswith("tick_gateway."):
            yield from kinds_of_errors(kind)


def test_error_codes() -> None:
    section = re.search(r"^## Errors$(.*?)(?=^## )", PROTOCOL, re.MULTILINE | re.DOTALL)
    assert section is not None
    told = set(re.findall(r"^\| `(\w+)` \|", section[1], re.MULTILINE))
    for module in pkgutil.walk_packages([str(SOURCE)], "tick_gateway."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert told == {kind.code for kind in kinds_of_errors()}


def test_errors_in_python() -> None:
    told = table_rows("python.md")
    for name, error in inspect.getmembers(errors, inspect.isclass):
        if issubclass(error, errors.GatewayError):
            assert name in told, f"docs/reference/python.md lacks {name}"
            assert f"`{error.code}`" in told[name][2], name


def test_notices() -> None:
    section = re.search(r"^## Notices$(.*?)(?=^## )", PROTOCOL, re.MULTILINE | re.DOTALL)
    assert section is not None
    told = set(re.findall(r"^\| `(\w+)` \|", section[1], re.MULTILINE))
    assert told == NAMES


def test_commands() -> None:
    section = re.search(r"^## WebSocket$(.*?)(?=^## )", PROTOCOL, re.MULTILINE | re.DOTALL)
    assert section is not None
    told = dict(re.findall(r'(\{"op":"(\w+)"[^`]*\})', section[1]))
    members = {op: set(re.findall(r'"(\w+)":', text)) - {"op", "id"} for text, op in told.items()}
    assert members == {op: set(command.members) for op, command in COMMANDS.items()}


# ---- the pages themselves ----


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no such file"
        assert target.is_relative_to(ROOT), f"{link} leaves the repository"
        if anchor:
            assert anchor in anchors(target), f"{link}: {target.name} has no such heading"


def test_every_page_is_linked() -> None:
    index = DOCS / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert set(DOCS.rglob("*.md")) - linked == {index}


def unindented(block: Block) -> str:
    """The code of a block, which may show the inside of a function."""
    return f"if True:\n{block.text}" if block.text.startswith(" ") else block.text


def python_blocks() -> list[Block]:
    return [block for page in pages() for block in blocks(page, "python")]


@pytest.mark.parametrize("block", python_blocks(), ids=str)
def test_python_compiles(block: Block) -> None:
    compile(unindented(block), str(block), "exec")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_form(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text.count("\n```") % 2 == 0, "a code block is not closed"
    assert text.endswith("\n") and not text.endswith("\n\n")
    assert re.match(r"# \S", text), "a page begins with its title"
    for block in blocks(page):
        assert block.language in ("sh", "python", "json", "nginx", "haproxy", "caddy", ""), f"{block}: {block.language}"
    assert "TODO" not in prose(page)


def test_the_map_of_the_code_names_what_is_there() -> None:
    named = re.findall(r"`(tick_gateway/[\w/.]+)`", (DOCS / "explanation" / "design.md").read_text("utf-8"))
    assert len(named) > 30
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_map_of_the_code_names_what_its_modules_define() -> None:
    page = (DOCS / "explanation" / "design.md").read_text("utf-8")
    named = re.findall(r"`([\w.]+)` in `(tick_gateway/[\w/]+\.py)`", page)
    named += [(name, path) for path, name in re.findall(r"`(tick_gateway/[\w/]+\.py)` \(`(\w+)`\)", page)]
    assert len(named) > 5
    for name, path in named:
        defined = {
            node.name
            for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8")))
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert set(name.split(".")) <= defined | {"__init__"}, f"{path} defines no {name}"


REGISTRIES = {
    "query parameter": (query, PARAMETERS),
    "notice": (notices, NAMES),
    "transport": (transports, TRANSPORTS),
    "source of ticks": (sources, SOURCES),
    "history engine": (history, history.ENGINES),
    "content coding": (codings, codings.TABLE),
    "setting": (settings, SETTINGS),
    "error code": (errors, errors.GatewayError),
    "metric": (metrics, metrics.TABLE),
    "route": (table_of_routes, table_of_routes.routes),
    "header of answers": (openapi, openapi.HEADERS),
}
"""What there is of each kind, and the module that it is listed in."""


@pytest.mark.parametrize("kind", REGISTRIES)
def test_what_to_touch_is_where_it_is_listed(kind: str) -> None:
    """And there alone: no other module says a second time what there is."""
    module, listed = REGISTRIES[kind]
    page = (DOCS / "explanation" / "design.md").read_text("utf-8")
    row = re.search(rf"^\| {kind} \| (.*) \|$", page, re.MULTILINE)
    assert row is not None, f"the table does not say how to add a {kind}"
    assert module.__file__ is not None
    assert f"`{Path(module.__file__).relative_to(ROOT)}`" in row[1]
    assert any(value is listed for value in vars(module).values())


def test_each_invariant_names_the_tests_that_attack_it() -> None:
    page = (DOCS / "explanation" / "invariants.md").read_text("utf-8")
    invariants = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |^\S|\Z)", page, re.MULTILINE | re.DOTALL)
    assert [int(number) for number, _ in invariants] == list(range(1, len(invariants) + 1)) and len(invariants) > 15
    for number, text in invariants:
        named = re.findall(r"`(tests/[^`]+)`", text)
        assert named, f"invariant {number} names no test"
        for test in named:
            path, _, name = test.partition("::")
            assert (ROOT / path).is_file(), f"invariant {number}: there is no {path}"
            assert Path(path).name.startswith("test_"), f"invariant {number}: pytest does not collect {path}"
            assert not name or name in names_of_tests(ROOT / path), f"invariant {number}: {path} has no test {name}"


def names_of_tests(path: Path) -> set[str]:
    """The tests at the top of a file: functions, classes, and state machines under the names that they are run by."""
    names: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {ast.unparse(target) for target in node.targets}
    return {name for name in names if name.startswith(("test_", "Test"))}


def test_the_glossary_names_classes_that_there_are() -> None:
    page = (DOCS / "explanation" / "glossary.md").read_text("utf-8")
    named = set(re.findall(r"`([A-Z]\w*[a-z]\w*)`", page))
    trees = [ast.parse(path.read_text("utf-8")) for path in SOURCE.rglob("*.py")]
    classes = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    assert len(named) > 50
    assert named - classes == set()


def test_docstrings_name_errors_that_exist() -> None:
    trees = {path: ast.parse(path.read_text("utf-8")) for path in (ROOT / "tick_gateway").rglob("*.py")}
    nodes = [(path, node) for path, tree in trees.items() for node in ast.walk(tree)]
    known = {node.name for _, node in nodes if isinstance(node, ast.ClassDef)} | set(dir(builtins))
    unknown = []
    for path, node in nodes:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        _, _, raised = (ast.get_docstring(node) or "").partition("Raises:\n")
        for names in re.findall(r"^    (\w+(?:, \w+)*): ", raised, re.M):
            unknown += [f"{path.name}, {node.name}: {name}" for name in names.split(", ") if name not in known]
    assert unknown == []

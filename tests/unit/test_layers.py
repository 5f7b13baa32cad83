"""The layers of the package, held against what is imported: one way, no cycle, and pure packages stay pure.

Beside them, names and sizes: no class name twice, no long function without its reason. Everything is read from the
source, so that imports for the type checker and inside functions count.

``python -m tests.unit.test_layers`` prints the graph of packages.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

import tick_gateway
from tests.support.markdown import DOCS

ROOT: Final = Path(tick_gateway.__file__).parent

LAYERS: Final = """
errors  version  logs
model
settings
wire
bus
history
reading
access
delivery
runtime
http
transports  sources
server
gateway
client
bench
cli
__main__
"""
"""From the bottom up: a package, or a module at the top, imports from the lines above its own and within itself."""

RANK: Final = {name: rank for rank, line in enumerate(LAYERS.strip().splitlines()) for name in line.split()}

PURE: Final = ("model", "wire", "history.format")
DOING: Final = {
    "aiohttp", "asyncio", "os", "select", "selectors", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile",
    "threading", "time", "uvloop",
}  # fmt: skip

CLIENT: Final = {"client", "errors", "logs", "model", "settings", "version", "wire"}
"""What a client may stand on: it is installed beside no server."""

SUBJECTS: Final = {
    "layers": "the package as a whole, read from its source",
    "server.history": "what is promised over HTTP where history is behind it, which no single module keeps",
}
"""Test files of ``tests/unit`` that are named by something else than a module, with what they are about."""

SMALL: Final = 40
"""Lines up to which a module needs no test file of its own."""

LONGEST: Final = 60
"""Lines from ``def`` to the end; a longer function is named with its reason in docs/explanation/design.md."""


def resolve(node: ast.ImportFrom, name: str, known: set[str]) -> set[str]:
    """The modules that a ``from`` takes from: each name that is a module itself, else the one that it stands in."""
    outer = ("tick_gateway." + name).rstrip(".").split(".")
    base = outer[: len(outer) - node.level + (name in PACKAGES)] if node.level else []
    source = ".".join([*base, *([node.module] if node.module else [])])
    inner = {f"{source}.{alias.name}" for alias in node.names}
    return {path if path in known else source for path in inner}


def read() -> dict[str, frozenset[str]]:
    """Every module by its name below the package, with what it imports, by full names."""
    known = {f"tick_gateway.{name}".rstrip(".") for name in FILES}
    found: dict[str, frozenset[str]] = {}
    for name, path in FILES.items():
        imports: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imports |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imports |= resolve(node, name, known)
        found[name] = frozenset(imports)
    return found


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(".")


FILES: Final = {_name(path): path for path in ROOT.rglob("*.py")}
PACKAGES: Final = {name for name, path in FILES.items() if path.name == "__init__.py"}
IMPORTS: Final = read()
INSIDE: Final = {
    name: sorted(path.removeprefix("tick_gateway.") for path in imports if path.startswith("tick_gateway."))
    for name, imports in IMPORTS.items()
}
MODULES: Final = sorted(name for name in IMPORTS if name)


def top(name: str) -> str:
    """The package at the top that a module is in, or itself."""
    return name.partition(".")[0]


def test_every_package_has_its_place_on_the_plan() -> None:
    assert {top(name) for name in MODULES} == set(RANK)


def test_few_modules_stand_at_the_top() -> None:
    assert len(list(ROOT.glob("*.py"))) <= 8


def test_every_package_says_in_a_line_what_it_is_for() -> None:
    for name in sorted(PACKAGES):
        doc = ast.get_docstring(ast.parse(FILES[name].read_text(encoding="utf-8"))) or ""
        assert len(doc.splitlines()[0]) > 20, name


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name: str) -> None:
    for other in INSIDE[name]:
        assert top(other) == top(name) or RANK[top(other)] < RANK[top(name)], f"{name} imports {other}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    TopologicalSorter(INSIDE).prepare()  # raises CycleError with the way round


def test_history_has_layers_of_its_own() -> None:
    """The formats; what all engines have in common; segments on disk; files of other programs, which can be imported
    into segments; the registry."""
    for name in MODULES:
        for other in INSIDE[name]:
            if top(name) == top(other) == "history":
                assert _floor(other) <= _floor(name), f"{name} imports {other}"


def _floor(name: str) -> int:
    package = name.removeprefix("history.").partition(".")[0]
    return {"format": 0, "local": 2, "external": 3, "history": 4}.get(package, 1)


def test_nothing_imports_the_front_door() -> None:
    """``tick_gateway`` itself imports the packages."""
    assert [name for name, imports in IMPORTS.items() if name and "tick_gateway" in imports] == []


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(PURE)])
def test_pure_modules_do_nothing(name: str) -> None:
    assert {path.partition(".")[0] for path in IMPORTS[name]} & DOING == set()


def test_clients_stand_on_no_server() -> None:
    for name in MODULES:
        if top(name) == "client":
            assert {top(other) for other in INSIDE[name]} <= CLIENT, name


def test_no_class_name_stands_twice() -> None:
    """A leading underscore tells two names apart for nobody who reads."""
    count = Counter(
        node.name.lstrip("_")
        for path in FILES.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert {name for name, times in count.items() if times > 1} == set()


def decides(path: Path) -> bool:
    """Whether a module is of some size and has branches."""
    text = path.read_text(encoding="utf-8")
    branches = ast.If | ast.IfExp | ast.For | ast.While | ast.Try | ast.Match | ast.BoolOp
    return len(text.splitlines()) > SMALL and any(isinstance(node, branches) for node in ast.walk(ast.parse(text)))


@pytest.mark.parametrize("name", [name for name in MODULES if decides(FILES[name])])
def test_a_module_has_its_test_file(name: str) -> None:
    """Where it stands is then known to whoever changes the module. A package's own module has it in its directory."""
    package, _, module = name.rpartition(".")
    path = Path(__file__).parent.joinpath(*(name if name in PACKAGES else package).split("."), f"test_{module}.py")
    assert path.is_file(), f"{path.relative_to(Path(__file__).parents[2])} is missing"


def test_a_test_file_is_named_by_what_it_tests() -> None:
    """By a module beside which it stands in the mirror, or by the package where all of its modules are meant; what is
    behind an underscore says which part of it."""
    unit = Path(__file__).parent
    strange: set[str] = set()
    for path in unit.rglob("test_*.py"):
        package = ".".join(path.parent.relative_to(unit).parts)
        name = path.stem.removeprefix("test_")
        beside = {module.rpartition(".")[2] for module in MODULES if module.rpartition(".")[0] == package}
        if not any(f"{name}_".startswith(f"{one}_") for one in beside | {package.rpartition(".")[2]} - {""}):
            strange.add(f"{package}.{name}".lstrip("."))
    assert strange == set(SUBJECTS)


def test_a_long_function_is_named_with_its_reason() -> None:
    long = {
        f"{name}.{node.name}"
        for name, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= LONGEST
    }
    page = (DOCS / "explanation" / "design.md").read_text("utf-8")
    section = re.search(r"^### Long functions$(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    told = re.findall(r"^- `([\w.]+)`: \S", section[1], re.MULTILINE) if section else []
    assert set(told) == long


def test_no_test_imports_from_a_test() -> None:
    """What several need stands in ``tests/support``."""
    tests = Path(__file__).parents[1]
    for path in [*tests.glob("*/**/test_*.py"), *tests.glob("support/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("tests.")):
                assert not (node.module or "").rpartition(".")[2].startswith("test_"), f"{path}: {node.module}"


def test_the_helpers_of_tests_are_all_told_of() -> None:
    support = Path(__file__).parents[1] / "support"
    told = set(re.findall(r"\w+", ast.get_docstring(ast.parse((support / "__init__.py").read_text("utf-8"))) or ""))
    assert {path.stem for path in support.iterdir() if path.stem.isidentifier() and path.stem[0] != "_"} <= told


def graph() -> str:
    """Which packages each package imports."""
    found: dict[str, set[str]] = {name: set() for name in RANK}
    for name in MODULES:
        found[top(name)] |= {top(other) for other in INSIDE[name]} - {top(name)}
    width = max(map(len, RANK))
    return "\n".join(f"{name:{width}}  {' '.join(sorted(found[name], key=RANK.__getitem__))}" for name in RANK)


if __name__ == "__main__":
    print(graph())

"""The house's plan, held against what the rooms import: arrows point one way, and pure rooms stay pure.

Imports are read from the source, those for the type checker and those inside functions included.
"""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import tick_gateway

ROOT = Path(tick_gateway.__file__).parent

LAYERS = """
errors  diagnosis  tls  large  spelling
tick  forms  settings  throttled  unsent
snapshot
record  ring  projection  accept  bar  reply  flags
view
params  bus  descriptors
notices  history
cursor  wire
placing  pieces  pace  variant  answers  script
feed
waiting  group  polls
crowd
fanout
hub  takeover  lookback
session
commands
transports  sources
server
asgi
gateway  importing
import_command  verifying  bench
sources.demo  sources.stdin  sources.tail  client
cli
__main__
"""
"""From the bottom up: a room imports from the lines above its own, and within its own package."""

RANK = {room: rank for rank, line in enumerate(LAYERS.strip().splitlines()) for room in line.split()}

MIXED = {"client.reader"}  # one class in it is pure, the rest is the network
HOLDING = {"group"}  # does nothing by itself, but holds a feed, which stands on the bus
DOING = {"asyncio", "socket", "ssl", "select", "selectors", "time", "threading", "subprocess", "aiohttp", "uvloop"}


class Room(NamedTuple):
    """A module by its name below the package; ``imports``: rooms and outside modules, by their full names."""

    name: str
    doc: str
    imports: frozenset[str]


def resolve(node: ast.ImportFrom, name: str, is_package: bool, known: set[str]) -> set[str]:
    """The modules that a ``from`` takes from: each name that is a module itself, else the one that it stands in."""
    outer = ("tick_gateway." + name).rstrip(".").split(".")
    base = outer[: len(outer) - node.level + is_package] if node.level else []
    source = ".".join([*base, *([node.module] if node.module else [])])
    if source == "tick_gateway" and all(alias.name == "__version__" for alias in node.names):
        return set()  # a constant above every import of the package
    inner = {f"{source}.{alias.name}" for alias in node.names}
    return {path if path in known else source for path in inner}


def read() -> dict[str, Room]:
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    names = {name.removesuffix("__init__").rstrip("."): (name, path) for name, path in files.items()}
    known = {f"tick_gateway.{name}".rstrip(".") for name in names}
    rooms: dict[str, Room] = {}
    for name, (file, path) in names.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imports |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imports |= resolve(node, name, file.endswith("__init__"), known)
        rooms[name] = Room(name, ast.get_docstring(tree) or "", frozenset(imports))
    return rooms


ROOMS = read()
INSIDE = {
    room.name: sorted(path.removeprefix("tick_gateway.") for path in room.imports if path.startswith("tick_gateway."))
    for room in ROOMS.values()
}


def rank(name: str) -> int | None:
    return RANK.get(name, RANK.get(name.partition(".")[0]))


def is_pure(name: str) -> bool:
    """What its docstring promises, or that of its package."""
    if name in MIXED:
        return False
    package = name.rpartition(".")[0]
    return bool(re.search(r"\b[Pp]ure\b", ROOMS[name].doc)) or (package != "" and is_pure(package))


PURE = sorted(name for name in ROOMS if name and is_pure(name))


def test_every_room_has_its_place_on_the_plan() -> None:
    assert [name for name in ROOMS if name and rank(name) is None] == []
    assert [name for name in RANK if name not in ROOMS] == []


@pytest.mark.parametrize("name", [name for name in sorted(ROOMS) if name])
def test_arrows_point_one_way(name: str) -> None:
    mine = rank(name)
    assert mine is not None
    for other in INSIDE[name]:
        theirs = rank(other)
        package = name.partition(".")[0]
        beside = other.partition(".")[0] == package and theirs == mine
        assert theirs is not None and (theirs < mine or beside), f"{name} imports {other}"


def test_no_room_imports_itself_by_way_of_others() -> None:
    TopologicalSorter(INSIDE).prepare()  # raises CycleError with the way round


def test_nothing_imports_the_front_door() -> None:
    """``tick_gateway`` itself imports the rooms: only ``__version__`` can be taken from it, which stands first."""
    assert [room.name for room in ROOMS.values() if "tick_gateway" in room.imports] == []
    body = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8")).body
    version = next(i for i, node in enumerate(body) if isinstance(node, ast.Assign))
    assert version < min(i for i, node in enumerate(body) if isinstance(node, ast.ImportFrom))


def test_the_rooms_that_promise_it_are_found() -> None:
    assert {"tick", "ring", "view", "params", "notices", "record", "settings", "variant", "wire.sse"} <= set(PURE)


@pytest.mark.parametrize("name", PURE)
def test_pure_rooms_do_nothing(name: str) -> None:
    assert {path.partition(".")[0] for path in ROOMS[name].imports} & DOING == set()


@pytest.mark.parametrize("name", [name for name in PURE if name not in HOLDING])
def test_pure_rooms_stand_on_rooms_that_do_nothing(name: str) -> None:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        room = waiting.pop()
        if room not in seen:
            seen.add(room)
            waiting += INSIDE[room]
    doing = {room for room in seen if {path.partition(".")[0] for path in ROOMS[room].imports} & DOING}
    assert doing == set(), f"{name} stands on {doing}"


def test_the_map_of_the_package_names_rooms_that_are_there() -> None:
    named = re.findall(r"^    ([a-z]+(?:, [a-z]+)*)(?:  .*)?$", ROOMS[""].doc.partition("The rooms")[2], re.MULTILINE)
    rooms = {room for row in named for room in row.split(", ")}
    assert {"tick", "bus", "ring", "feed", "fanout", "session", "wire", "transports", "sources"} <= rooms <= set(ROOMS)

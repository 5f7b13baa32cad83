"""A copy of a record that is safe to give to orjson: while orjson reads it, no Python code runs and nothing changes.

orjson 3.13 keeps no reference to what it reads, and holds the GIL throughout, so plain values cannot change under it.
Where it runs Python code (``default=``, the ``value`` of an enum member), that code may change a list that is being
read, let another thread do so, or raise, as Ctrl-C does: any of these crashes the process. So orjson gets no
``default`` and no enum members, and of numpy's types only numbers, because a ``datetime64`` in multiples of a unit
crashes the process, too. What it refuses, or must not be given, is copied into a tree of its own first: each container
is copied in one step, and foreign values are converted between these copies (see ``_step``).

Pure: the record is never changed. Exceptions from the record's own code pass through.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable
from datetime import date, datetime, time
from enum import Enum, EnumMeta
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, cast

import orjson

from .conversion import OPTIONS, Tabular, is_kept_in_dict, public, simplify, slots_of

MAX_DEPTH: Final = 250  # orjson refuses more than 254
_MAX_LEVEL: Final = 1 << 22  # containers at one depth; a record with more contains itself more than once
_MAX_STEPS: Final = 32  # conversions of one value in a row; no real record needs that many
_LEAVES: Final = frozenset({str, int, float, bool, type(None)})
_ARRAYS: Final = frozenset({list, tuple})
_CONTAINERS: Final = _ARRAYS | {dict}
_NOT_DATA: Final = sys.stdlib_module_names | {
    "aiohttp", "aiosignal", "attr", "click", "msgspec", "multidict", "numpy", "pandas", "polars", "prometheus_client",
    "tick_gateway", "typing_extensions", "uvloop", "websockets", "yarl", "zstandard",
}  # fmt: skip
"""Packages whose enumerations are for their own use, not for records."""


class NeedsExactEncoder(Exception):
    """Only the exact encoder can tell what becomes of the record."""


class _Enumerations:
    """Whether this process has enum classes whose members may be part of records."""

    def __init__(self) -> None:
        self._any = False
        self._references = -1

    def exist(self) -> bool:
        """Cheap enough to call for each record: every subclass holds references to ``Enum``, so the classes are looked
        at again only when its reference count changes."""
        if not self._any and (references := sys.getrefcount(Enum)) != self._references:
            self._any = any(_may_be_data(cls) for cls in _below(Enum))
            self._references = references  # last: a signal may end the search, and then it begins anew
        return self._any


def _below(cls: type) -> Iterable[type]:
    found: list[type] = cls.__subclasses__()
    for inner in found:
        yield inner
        yield from _below(inner)


def _may_be_data(cls: type) -> bool:
    module: object = cls.__module__
    return not isinstance(module, str) or module.partition(".")[0] not in _NOT_DATA or module == "__main__"


enumerations: Final = _Enumerations()


def is_safe(record: object) -> bool:
    """Whether orjson runs no Python code while it reads a record, or stops before it would.

    Only enum members make it run code. The garbage collector tracks each of them, but not numbers, strings and dicts of
    these.
    """
    return not enumerations.exist() or _is_plain(record)


def _is_plain(record: object) -> bool:
    level: list[object] = [record]
    for _ in range(MAX_DEPTH):
        if not level:
            return True
        if not _CONTAINERS.issuperset(map(type, level)):
            return False
        level = list(filter(gc.is_tracked, gc.get_referents(*level)))
        if len(level) > _MAX_LEVEL:
            break
    return False


class Snapshot:
    """A private copy of a record, which orjson reads without running any Python code.

    Attributes:
        tree: the copy. A long list of dataclass instances with plain members contains the instances themselves.
        options: to be passed to orjson with it.

    Raises:
        NeedsExactEncoder: it is nested too deeply for orjson, or may change while orjson reads it.
        Exception: whatever the record's own code raises.
    """

    def __init__(self, record: object) -> None:
        self._rows: list[list[Any]] = []  # lists of dataclass instances
        self._asked = False  # code of the record's has run
        self._known: dict[int, tuple[object, object]] = {}  # enum members by id, with their values
        self.tree = self._value(record, 0)
        if self._asked and not all(map(_hold_leaves, self._rows)):
            raise NeedsExactEncoder
        self.options = OPTIONS ^ orjson.OPT_PASSTHROUGH_DATACLASS if self._rows else OPTIONS

    def _value(self, value: Any, depth: int) -> object:
        for _ in range(_MAX_STEPS):
            cls: Any = type(value)
            if cls in _LEAVES:
                return value
            step = _step(cls)
            if step is _AS_IT_IS:
                return value
            if step is _OPEN:
                return self._open(value, cls, depth)
            self._asked = True
            value = step(value)
        raise NeedsExactEncoder

    def _open(self, value: Any, cls: Any, depth: int) -> object:
        """Copy a container: what it itself holds, as orjson reads it, whatever methods a subclass overrides."""
        if depth == MAX_DEPTH:  # or it contains itself
            raise NeedsExactEncoder
        if issubclass(cls, dict):
            held = value.copy() if cls is dict else dict(list(dict.items(value)))
            return dict(zip(held, self._list(list(held.values()), depth), strict=True))
        return self._list(list.copy(value) if issubclass(cls, list) else list(tuple.__iter__(value)), depth)

    def _fill(self, held: dict[Any, Any], depth: int) -> None:
        """Replace the values in a dict of this copy that are not plain."""
        known = self._known
        for key, value in held.items():
            cls: Any = type(value)
            if cls not in _LEAVES:
                if (found := known.get(id(value))) is not None:
                    held[key] = found[1]
                else:
                    held[key] = plain = self._value(value, depth + 1)
                    if isinstance(cls, EnumMeta) and type(plain) in _LEAVES and _step(cls) is _MEMBER_VALUE:
                        known[id(value)] = value, plain

    def _list(self, held: list[Any], depth: int) -> list[Any]:
        kinds = set(map(type, held))
        if _are_leaves(kinds):
            return held
        if len(kinds) == 1 and depth < MAX_DEPTH:  # many of the same type, such as agents
            (cls,) = kinds
            if cls is dict:
                return self._dicts([one.copy() for one in held], depth + 1)
            if is_kept_in_dict(cls):
                if _hold_leaves(held):
                    self._rows.append(held)
                    return held
                return self._dicts([public(one.__dict__.copy()) for one in held], depth + 1)
            if (slots := slots_of(cls)) is not None:
                names, read = slots
                return self._dicts([dict(zip(names, read(one))) for one in held], depth + 1)  # noqa: B905 - as many
        return [self._value(one, depth + 1) for one in held]

    def _dicts(self, held: list[dict[Any, Any]], depth: int) -> list[Any]:
        if not _are_leaves(set(map(type, gc.get_referents(*held)))):
            for one in held:
                self._fill(one, depth)
        return held


def _hold_leaves(rows: list[Any]) -> bool:
    """Whether the members of dataclass instances are leaves, or lists and tuples of leaves (such as positions)."""
    held = gc.get_referents(*[one.__dict__ for one in rows])
    kinds = set(map(type, held))
    if inner := kinds & _ARRAYS:
        within = gc.get_referents(*[one for one in held if type(one) in inner])
        kinds = kinds - inner | set(map(type, within))
    return _are_leaves(kinds)


def _are_leaves(kinds: set[Any]) -> bool:
    """Whether orjson writes values of these classes without running Python code."""
    return kinds <= _LEAVES or all(kind in _LEAVES or _step(kind) is _AS_IT_IS for kind in kinds)


def _as_it_is(value: Any) -> object:
    return value


def _open(value: Any) -> object:
    return value


_AS_IT_IS: Final = _as_it_is
_OPEN: Final = _open


@lru_cache(maxsize=1024)
def _step(cls: Any) -> Callable[[Any], object]:
    """A function that converts a value of a class one step; ``_AS_IT_IS``: orjson writes it without running code."""
    if type(cls) is EnumMeta or issubclass(cls, Enum):
        return _member_value(cls)
    if issubclass(cls, (dict, list, tuple)):
        return _OPEN
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and issubclass(cls, numpy.generic):
        return _AS_IT_IS if issubclass(cls, (numpy.number, numpy.bool_)) and _is_written(numpy, cls) else simplify
    if numpy is not None and cls is numpy.ndarray:
        return _from_array
    if issubclass(cls, (str, int, orjson.Fragment)):
        return _AS_IT_IS
    return _STEPS.get(cls, simplify)


def _is_written(numpy: Any, cls: Any) -> bool:
    return bool(numpy.dtype(cls).kind in "biuf" and numpy.dtype(cls).itemsize <= 8)


def _from_array(value: Any) -> object:
    """An array of numbers unchanged if orjson can write it; any other comes back later in a simpler form."""
    dtype, flags = value.dtype, value.flags
    if value.ndim and dtype.kind in "biuf" and dtype.itemsize <= 8 and flags.c_contiguous and dtype.isnative:
        return orjson.Fragment(orjson.dumps(value, None, orjson.OPT_SERIALIZE_NUMPY))
    return simplify(value)


def _member_value(cls: Any) -> Callable[[Any], object]:
    """How to read the value of an enum member: directly, if its class does not override that."""
    classes = [base for base in cls.__mro__ if base is not Enum and base.__module__ != "builtins"]
    own = any(name in base.__dict__ for base in classes for name in _ASKED)
    return attrgetter("value") if own else _MEMBER_VALUE


_MEMBER_VALUE: Final = attrgetter("_value_")
_ASKED: Final = ("value", "_value_", "__getattribute__", "__getattr__")


def _datetime(value: datetime) -> object:
    """As ``isoformat``; three times as fast without a time zone."""
    return orjson.Fragment(orjson.dumps(value)) if value.tzinfo is None else value.isoformat()


def _table(table: Tabular) -> object:
    """The JSON of a table, made column by column: one dict per row would take three times as long."""
    if set(map(type, table.names)) != {str}:
        return table.dicts()
    rows, step = len(table.columns[0]), 2 * len(table.names)
    parts = [b""] * (step * rows)
    for place, (name, column) in enumerate(zip(table.names, table.columns, strict=True)):
        between = b"," if place else b"},{"
        parts[2 * place :: step] = [between + orjson.dumps(name) + b":"] * rows
        parts[2 * place + 1 :: step] = _texts(column)
    return orjson.Fragment(b"[" + b"".join(parts)[2:] + b"}]" if rows else b"[]")


def _texts(column: Any) -> list[bytes]:
    """The JSON of each value in a column."""
    kind = column.dtype.kind if hasattr(column, "dtype") and column.ndim == 1 else ""
    if kind in tuple("biuf") and column.dtype.itemsize <= 8:
        numbers = column.astype(column.dtype.newbyteorder("="), order="C")
        return orjson.dumps(numbers, option=OPTIONS)[1:-1].split(b",") if len(column) else []
    if kind == "U":
        column = column.tolist()
    snapshot = Snapshot(list(column))
    return [orjson.dumps(value, None, snapshot.options) for value in cast(list[object], snapshot.tree)]


_STEPS: Final[dict[type, Callable[[Any], object]]] = {
    datetime: _datetime,
    date: date.isoformat,
    time: time.isoformat,
    Tabular: _table,
}

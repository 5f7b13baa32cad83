"""A record becomes JSON bytes: what a simulation holds, in the one form that every client reads.

One call of orjson carries nearly every record. What it would get wrong without a word (NaN as null, two keys that
become one, NaT as a date) or does not take (integers beyond 64 bits, nesting beyond 254) goes to ``_Writer``, which
walks the record, knows at each moment where it stands, and so can name the offending value.

Pure: no I/O, no asyncio, no clock; the record is never changed. numpy is never imported here, only met. Whether the
record is a proper *tick* (its ``t``, its size) is not decided here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal
from uuid import UUID

import orjson

from .errors import RecordError
from .forms import NAT, NoForm, decimal, is_dataclass, kind, members, simplify
from .tick import MAX_NESTING

NanPolicy = Literal["refuse", "null"]

_FAST: Final = orjson.OPT_SERIALIZE_NUMPY
_ANY_KEYS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_PLAIN: Final = frozenset({str, int, bool, type(None), datetime, date, time, UUID})
_INT64: Final = range(-(2**63), 2**64)  # what orjson writes by itself
_MAX_STEPS: Final = 32  # an object whose simpler form is an object again, and so on: no simulation goes this far


def encode(record: object, *, nan: NanPolicy = "refuse") -> bytes:
    """Encode one record as a JSON object in UTF-8, on one line.

    Beside plain JSON values it takes numpy scalars and arrays (structured ones as objects), dataclasses, enums, any
    mapping, sequence or set, ``datetime`` and its kin (ISO 8601), ``timedelta`` (seconds), ``Decimal`` (a number with
    all its digits), ``UUID``, paths, and whatever has ``tolist()``. Sets come sorted where their elements can be. An
    ``orjson.Fragment`` goes in as it is: that it is JSON on one line is its maker's promise.

    Args:
        record: a mapping, a dataclass, or anything else that becomes a JSON object.
        nan: what becomes of NaN, NaT and the infinities, which JSON does not have: ``"refuse"`` raises, ``"null"``
            writes null.

    Raises:
        RecordError: something in the record has no JSON form; ``path`` says where.
    """
    try:
        data = orjson.dumps(record, simplify, _FAST)
    except TypeError:
        data = _encode_unusual(record, nan)
    else:
        if (b"null" in data and nan == "refuse") or ("numpy" in sys.modules and _may_hold_times(data)):
            if not _is_sure(record, any_keys=False, floats=nan == "refuse"):
                data = _Writer(nan).write(record)
    if data[:1] != b"{":
        raise RecordError(f"a record is a mapping or a dataclass, this is {kind(record)}")
    return data


def _encode_unusual(record: object, nan: NanPolicy) -> bytes:
    """Encode what orjson refused at first: keys that are no strings are common, the rest is rare."""
    try:
        data = orjson.dumps(record, simplify, _ANY_KEYS)
    except TypeError:
        return _Writer(nan).write(record)
    return data if _is_sure(record, any_keys=True, floats=nan == "refuse") else _Writer(nan).write(record)


def _may_hold_times(data: bytes) -> bool:
    """Whether orjson may have met a numpy ``datetime64``, of which it writes NaT as a date, or half an array.

    Seen with orjson 3.13: each one written has a ``T``, and an array broken off before the first lacks a bracket.
    """
    return b"T" in data or data.count(b"[") != data.count(b"]")


def _is_sure(record: object, *, any_keys: bool, floats: bool) -> bool:
    """Whether what orjson wrote is right for certain; False where only the careful writer can tell.

    Args:
        any_keys: keys that are no strings were let through. Only strings alone, or integers alone, cannot collide.
        floats: NaN and the infinities are to be found too.
    """
    stack: list[Iterable[Any]] = [(record,)]
    while stack:
        for value in stack.pop():
            cls = type(value)
            if cls is float:
                if floats and value - value != 0.0:  # only a finite number gives 0
                    return False
            elif cls in _PLAIN:
                pass
            elif isinstance(value, dict):
                if any_keys and set(map(type, value)) not in ({str}, {int}, set()):
                    return False
                stack.append(value.values())
            elif isinstance(value, (list, tuple)):
                stack.append(value)
            elif is_dataclass(value):
                stack.append([item for _, item in members(value)])
            elif not _is_sure_leaf(value):
                return False
    return True


def _is_sure_leaf(value: object) -> bool:
    """The same of what is neither plain nor an ordinary container."""
    try:
        data = orjson.dumps(value, simplify, _FAST)
    except TypeError:
        return False
    numpy: Any = sys.modules.get("numpy")
    numbers = numpy is not None and isinstance(value, numpy.ndarray) and value.dtype.kind in "biuf"
    return b"null" not in data and (numbers or not _may_hold_times(data))


class _Frame:
    """One array or object that is being written.

    Attributes:
        items: what is still to be written; keys of an object, indices of an array.
        key: where in it the writer stands.
        seen: the keys that stand already in an object.
        ids: the identities of the container and of all that it was simplified from, to notice one inside itself.
    """

    __slots__ = ("close", "ids", "items", "key", "seen", "separator")

    def __init__(self, container: dict[Any, Any] | list[Any] | tuple[Any, ...], ids: frozenset[int]) -> None:
        if isinstance(container, dict):
            self.close = b"}"
            self.items: Iterator[tuple[object, object]] = iter(container.items())
        else:
            self.close = b"]"
            self.items = iter(enumerate(container))
        self.key: object = None
        self.seen: set[bytes] = set()
        self.ids = ids
        self.separator = b""


class _Writer:
    """The careful way: slower by far, exact about integers, and able to say where it stands.

    It keeps its own stack, so that neither nesting nor how deep its caller stands can exhaust Python's.
    """

    def __init__(self, nan: NanPolicy) -> None:
        self._nan = nan
        self._stack: list[_Frame] = []
        self._parts: list[bytes] = []

    def write(self, record: object) -> bytes:
        """The whole record; raises RecordError."""
        self._value(record)
        while self._stack:
            frame = self._stack[-1]
            entry = next(frame.items, None)
            if entry is None:
                self._parts.append(frame.close)
                self._stack.pop()
                continue
            self._parts.append(frame.separator)
            frame.separator = b","
            frame.key, value = entry
            if frame.close == b"}":
                self._parts.append(self._key(frame) + b":")
            self._value(value)
        return b"".join(self._parts)

    def _value(self, value: object) -> None:
        """Write a leaf, or open a container."""
        ids = []
        for _ in range(_MAX_STEPS):
            try:
                leaf = self._leaf(value)
                if leaf is not None:
                    self._parts.append(leaf)
                    return
                ids.append(id(value))
                if isinstance(value, (dict, list, tuple)) and not isinstance(value, Enum):
                    return self._open(value, frozenset(ids))
                value = simplify(value)
            except NoForm as error:
                raise self._error(str(error)) from None
        raise self._error(f"{kind(value)} has no JSON form")

    def _open(self, container: dict[Any, Any] | list[Any] | tuple[Any, ...], ids: frozenset[int]) -> None:
        if any(ids & frame.ids for frame in self._stack):
            raise self._error("the record contains itself here")
        if len(self._stack) >= MAX_NESTING:
            raise self._error(f"nested deeper than {MAX_NESTING}")
        frame = _Frame(container, ids)
        self._parts.append(b"{" if frame.close == b"}" else b"[")
        self._stack.append(frame)

    def _leaf(self, value: object) -> bytes | None:
        """The JSON of a value that holds no others; None where it has to be opened or simplified."""
        match value:
            case None | True | False:
                return orjson.dumps(value)
            case Enum():
                return None
            case str():
                try:
                    return orjson.dumps(value)
                except TypeError:
                    raise NoForm("the string has a lone surrogate, which UTF-8 does not have") from None
            case int():
                return self._integer(int(value))
            case float():
                return self._float(float(value))
            case dict() | list() | tuple():
                return None
            case Decimal() if value.is_finite():
                return decimal(value)
        return self._native(value)

    def _native(self, value: object) -> bytes | None:
        """What orjson writes right by itself: times, UUIDs, numpy's numbers."""
        numpy: Any = sys.modules.get("numpy")
        numbers = numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)) and value.dtype.kind in "biuf"
        if not numbers and not isinstance(value, (date, time, UUID, orjson.Fragment)):
            return None
        try:
            data = orjson.dumps(value, option=_FAST)
        except TypeError:
            return None
        return None if numbers and b"null" in data else data  # a NaN in an array: opened, until it has a path

    def _integer(self, value: int) -> bytes:
        if value not in _INT64:
            try:
                float(value)
            except OverflowError:
                raise NoForm("the integer is beyond 1.8e308, which JSON readers take for infinity") from None
        return str(value).encode()

    def _float(self, value: float) -> bytes:
        if value - value == 0.0 or self._nan == "null":
            return orjson.dumps(value)
        name = "NaT" if value is NAT else "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        raise NoForm(f'{name} has no JSON form; publish null in its place, or let the setting nan be "null"')

    def _key(self, frame: _Frame) -> bytes:
        """A key of an object, as the JSON string that it becomes."""
        key = frame.key
        if not isinstance(key, str):
            key = key.value if isinstance(key, Enum) else key
            numpy: Any = sys.modules.get("numpy")
            key = key.item() if numpy is not None and isinstance(key, numpy.generic) else key
        if not isinstance(key, (str, int, float, date, time, UUID, type(None))):
            raise self._error(f"the key {key!a:.60} is {kind(key)}; keys are strings or become strings", within=True)
        try:
            text = self._leaf(key) or b""
        except NoForm as error:
            raise self._error(f"the key {key!a:.60}: {error}", within=True) from None
        if text[:1] != b'"':
            text = b'"%b"' % text
        if text in frame.seen:
            raise self._error(f"two keys become one in JSON: {text.decode():.60}", within=True)
        frame.seen.add(text)
        return text

    def _error(self, problem: str, *, within: bool = False) -> RecordError:
        """An error about the value at which the writer stands; ``within``: about the object that holds it."""
        return RecordError(problem, _path([frame.key for frame in self._stack[: -1 if within else None]]))


def _path(keys: list[object]) -> str:
    """``agents[3].x`` from the keys that lead there; what is no name stands in brackets, as it would in Python."""
    parts = [f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!a}]" for key in keys]
    path = "".join(parts).removeprefix(".")
    return path if len(path) <= 200 else f"{path[:120]} ... {path[-60:]}"

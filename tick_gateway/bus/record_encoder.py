"""Encodes records: what a simulation publishes becomes JSON bytes.

A record of plain values is encoded by one call of orjson. For anything else, orjson is given a copy of plain values,
because Python code that runs while orjson reads could crash the process (see ``snapshot``). What orjson would silently
get wrong (NaN as null, two keys that become one, NaT as a date) or refuses (integers beyond 64 bits, nesting beyond
254) goes to ``_ExactEncoder``, which walks the record and knows its path at each step, so that errors name the
offending value.

Pure: no I/O, no asyncio, no clock; the record is never changed. numpy is never imported here. Whether the record is a
proper *tick* (its ``t``, its size) is decided elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal, TypeGuard
from uuid import UUID

import orjson

from ..errors import RecordError
from ..model.tick import MAX_NESTING, escape_line_ends
from ..settings import DEFAULTS
from .conversion import NAT, OPTIONS, NotSerializable, decimal, is_dataclass, kind, members, simplify
from .snapshot import NeedsExactEncoder, Snapshot, is_safe

NanPolicy = Literal["refuse", "null"]

_OPTIONS: Final = OPTIONS ^ orjson.OPT_SERIALIZE_NUMPY  # numpy values are converted first
_PLAIN: Final = frozenset({str, int, bool, type(None), datetime, date, time, UUID})
_INT64: Final = range(-(2**63), 2**64)  # what orjson can write
_MAX_STEPS: Final = 32  # conversions of one value in a row; no real record needs that many


def encode(record: object, *, nan: NanPolicy = DEFAULTS.nan_policy) -> bytes:
    """Encode one record as a JSON object in UTF-8, on one line.

    Beside plain JSON values it takes numpy scalars and arrays (structured ones as objects), dataclasses, enums, any
    mapping, sequence or set, ``datetime``, ``date`` and ``time`` (ISO 8601), ``timedelta`` (seconds), ``Decimal`` (a
    number with all its digits), ``UUID``, paths, data frames of pandas and polars (an array of rows), and anything with
    ``tolist()``. Sets are sorted if their elements can be. A key becomes the text that it would be as a value. An
    ``orjson.Fragment`` is inserted unchanged: its maker guarantees that it is JSON on one line.

    Args:
        record: a mapping, a dataclass, or anything else that becomes a JSON object.
        nan: how to treat NaN, NaT and the infinities, which JSON does not have: ``"refuse"`` raises, ``"null"`` writes
            null.

    Raises:
        RecordError: something in the record has no JSON form, or raises when it is read; ``path`` says where.
    """
    data = None
    if is_safe(record):
        try:
            data = orjson.dumps(record, None, _OPTIONS)
        except TypeError:
            pass  # it contains something that is not plain
    if data is None:
        data = _encode_snapshot(record, nan)
    elif b"null" in data and nan == "refuse" and not _nulls_are_real(record):
        data = _ExactEncoder(nan).write(record)
    if data[:1] != b"{":
        raise RecordError(f"a record is a mapping or a dataclass, this is {kind(record)}")
    return escape_line_ends(data)


def _encode_snapshot(record: object, nan: NanPolicy) -> bytes:
    """Encode a record that orjson refuses, or must not be given, from a copy."""
    try:
        snapshot = Snapshot(record)
        try:
            data = orjson.dumps(snapshot.tree, None, snapshot.options)
        except TypeError:
            if not _keys_stay_distinct(snapshot.tree):
                raise
            data = orjson.dumps(snapshot.tree, None, snapshot.options | orjson.OPT_NON_STR_KEYS)
    except (NeedsExactEncoder, NotSerializable, TypeError, RecursionError):
        return _ExactEncoder(nan).write(record)
    except Exception as error:  # from a value's own code: the exact encoder meets it again, and adds the path
        _ExactEncoder(nan).write(record)
        raise RecordError(f"the record cannot be read: {_describe_error(error)}") from error
    if b"null" in data and nan == "refuse" and not _nulls_are_real(snapshot.tree):
        return _ExactEncoder(nan).write(record)
    return data


def _nulls_are_real(record: object) -> bool:
    """Whether each null that orjson wrote was None; False if only the exact encoder can tell."""
    try:
        return _all_nulls_are_real(record)
    except Exception:  # changed by another thread: the exact encoder adds the path
        return False


def _all_nulls_are_real(record: object) -> bool:
    stack: list[tuple[Iterable[Any], int]] = [((record,), 0)]
    while stack:
        values, depth = stack.pop()
        for value in values:
            cls = type(value)
            if cls is float:
                if value - value != 0.0:  # gives 0 only for a finite number
                    return False
                continue
            if cls in _PLAIN:
                continue
            if isinstance(value, dict):
                inner: Iterable[Any] = dict.values(value)
            elif isinstance(value, (list, tuple)):
                inner = value
            elif is_dataclass(value):
                inner = members(value).values()
            elif _leaf_nulls_are_real(value):
                continue
            else:
                return False
            if depth == MAX_NESTING:  # or it contains itself
                return False
            stack.append((inner, depth + 1))
    return True


def _keys_stay_distinct(tree: object) -> bool:
    """Whether no two keys of an object can become the same: there are only strings, or only integers."""
    stack = [tree]
    while stack:
        held = stack.pop()
        if type(held) is dict:
            if set(map(type, held)) not in ({str}, {int}, set()):
                return False
            stack += held.values()
        elif type(held) is list:
            stack += held
    return True


def _leaf_nulls_are_real(value: object) -> bool:
    """As ``_nulls_are_real``, for values that are neither plain nor ordinary containers."""
    numpy: Any = sys.modules.get("numpy")
    numbers = numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)) and value.dtype.kind in "biuf"
    if not numbers and not isinstance(value, orjson.Fragment):
        return isinstance(value, (str, int)) and not isinstance(value, Enum)
    return b"null" not in orjson.dumps(value, option=OPTIONS)


class _OpenContainer:
    """An array or object that is being written.

    Attributes:
        items: what is left to write; keys of an object, indices of an array.
        key: of the current item.
        seen: the keys already written to an object.
        forms: the container and everything it was converted from, to detect one that contains itself.
    """

    __slots__ = ("close", "forms", "items", "key", "seen", "separator")

    def __init__(self, container: dict[Any, Any] | list[Any] | tuple[Any, ...], forms: list[object]) -> None:
        # What the container itself holds, as orjson reads it, whatever methods a subclass overrides.
        if isinstance(container, dict):
            self.close = b"}"
            self.items: Iterator[tuple[object, object]] = iter(dict.items(container))
        else:
            self.close = b"]"
            self.items = enumerate(
                list.__iter__(container) if isinstance(container, list) else tuple.__iter__(container)
            )
        self.key: object = None
        self.seen: set[bytes] = set()
        self.forms = forms
        self.separator = b""


class _ExactEncoder:
    """Encodes value by value: far slower, but exact about integers, and errors have the path of the value.

    It keeps its own stack, so neither deep nesting nor a deep call stack can cause a RecursionError.
    """

    def __init__(self, nan: NanPolicy) -> None:
        self._nan = nan
        self._stack: list[_OpenContainer] = []
        self._parts: list[bytes] = []

    def write(self, record: object) -> bytes:
        """Encode the whole record; raises RecordError."""
        self._value(record)
        while self._stack:
            frame = self._stack[-1]
            try:
                entry = next(frame.items, None)
            except RuntimeError as error:  # changed by another thread
                raise self._error(f"it was changed while it was read: {error}", within=True) from error
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
        forms: list[object] = []
        for _ in range(_MAX_STEPS):
            try:
                leaf = self._leaf(value)
                if leaf is not None:
                    self._parts.append(leaf)
                    return
                forms.append(value)
                if _is_container(value):
                    return self._open(value, forms)
                value = simplify(value)
            except NotSerializable as error:
                raise self._error(str(error)) from None
            except RecordError:
                raise
            except Exception as error:
                raise self._error(f"{kind(value)} cannot be read: {_describe_error(error)}") from error
        raise self._error(f"{kind(value)} has no JSON form")

    def _open(self, container: dict[Any, Any] | list[Any] | tuple[Any, ...], forms: list[object]) -> None:
        if any(form is outer for form in forms for frame in self._stack for outer in frame.forms):
            raise self._error("the record contains itself here")
        if len(self._stack) >= MAX_NESTING:
            raise self._error(f"nested deeper than {MAX_NESTING}")
        frame = _OpenContainer(container, forms)
        self._parts.append(b"{" if frame.close == b"}" else b"[")
        self._stack.append(frame)

    def _leaf(self, value: object) -> bytes | None:
        """The JSON of a value without children; None if it has to be opened or converted."""
        match value:
            case None | True | False:
                return orjson.dumps(value)
            case Enum():
                return None
            case str():
                try:
                    return orjson.dumps(value)
                except TypeError:
                    raise NotSerializable("the string has a lone surrogate, which UTF-8 does not have") from None
            case int():
                return self._integer(int.__int__(value))
            case float():
                return self._float(float(value))
            case dict() | list() | tuple():
                return None
            case Decimal() if value.is_finite():
                return decimal(value)
        return self._native(value)

    def _native(self, value: object) -> bytes | None:
        """The JSON of a value that orjson encodes correctly by itself: numpy's numbers, and JSON fragments."""
        numpy: Any = sys.modules.get("numpy")
        numbers = numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)) and value.dtype.kind in "biuf"
        if not numbers and not isinstance(value, orjson.Fragment):
            return None
        try:
            data = orjson.dumps(value, option=OPTIONS)
        except TypeError:
            return None
        return None if numbers and b"null" in data else data  # a NaN in an array: open it, to find its path

    def _integer(self, value: int) -> bytes:
        if value not in _INT64:
            try:
                float(value)
            except OverflowError:
                raise NotSerializable("the integer is beyond 1.8e308, which JSON readers take for infinity") from None
        return str(value).encode()

    def _float(self, value: float) -> bytes:
        if value - value == 0.0 or self._nan == "null":
            return orjson.dumps(value)
        name = "NaT" if value is NAT else "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        raise NotSerializable(f'{name} has no JSON form; publish null in its place, or let the setting nan be "null"')

    def _key(self, frame: _OpenContainer) -> bytes:
        """A key of an object, as a JSON string: the text that it would be as a value."""
        text, value = None, frame.key
        try:
            for _ in range(_MAX_STEPS):
                if isinstance(value, orjson.Fragment) or _is_container(value):
                    break
                text = self._leaf(value)
                if text is not None:
                    break
                value = simplify(value)
        except NotSerializable as error:
            raise self._error(f"the key {_quote(frame.key)}: {error}", within=True) from None
        except Exception as error:
            raise self._error(f"a key, {kind(value)}, cannot be read: {_describe_error(error)}", within=True) from error
        if text is None:
            problem = f"the key {_quote(frame.key)} is {kind(frame.key)}; keys are strings or become strings"
            raise self._error(problem, within=True)
        if text[:1] != b'"':
            text = b'"%b"' % text
        if text in frame.seen:
            raise self._error(f"two keys become one in JSON: {text.decode():.60}", within=True)
        frame.seen.add(text)
        return text

    def _error(self, problem: str, *, within: bool = False) -> RecordError:
        """An error about the current value; ``within``: about the object that contains it."""
        return RecordError(problem, _path([frame.key for frame in self._stack[: -1 if within else None]]))


def _is_container(value: object) -> TypeGuard[dict[Any, Any] | list[Any] | tuple[Any, ...]]:
    return isinstance(value, (dict, list, tuple)) and not isinstance(value, Enum)


def _quote(value: object) -> str:
    """A key, for an error; its own ``repr`` may raise."""
    try:
        return f"{value!a:.60}"
    except Exception:
        return "that stands there"


def _describe_error(error: Exception) -> str:
    """An exception from the record's own code, for an error."""
    try:
        return f"{type(error).__name__}: {error!s:.200}"
    except Exception:
        return type(error).__name__


def _path(keys: list[object]) -> str:
    """The path ``agents[3].x`` from keys; a key that is not a name is written in brackets, as in Python."""
    parts = [f".{key}" if type(key) is str and key.isidentifier() else f"[{_quote(key)}]" for key in keys]
    path = "".join(parts).removeprefix(".")
    return path if len(path) <= 200 else f"{path[:120]} ... {path[-60:]}"

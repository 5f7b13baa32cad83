"""Ranges as tables: CSV and Arrow, for tools that want columns.

A table has a row a tick. Its columns are ``t``, with ``stamp`` also ``run`` and ``at``, and then: with ``fields``, each
path; without, each member that any tick of the range has, in the order in which they first come. A path through an
array gives the array of what it leads to. Objects and arrays stand in a cell as JSON, and so does everything in a
column whose ticks do not agree on a type.

What a column is called and holds is known once the whole range was gone through; so it is, before its first byte.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final, Literal, Protocol

from ..cursor import Span
from ..errors import ParameterError
from ..view import View

Kind = Literal["none", "bool", "int", "float", "text", "json"]
Columns = dict[str, Kind]

_ROWS: Final = 1000  # of an Arrow batch
_ARROW_END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_OWN: Final = ("t", "run", "at")
_MISSING: Final = object()


class Rows:
    """Turns ticks into rows: each a dict by column."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._stamped = _OWN if view.stamp else ("t",)
        self._paths = [(path, path.split(".")) for path in view.fields if path != "t"]

    def of(self, span: Span, most: int | None) -> list[dict[str, Any]]:
        """The rows of those that pass, ``most`` at the most."""
        passing = (tick for tick in span.ticks if self._view.passes(tick.t))
        run = span.batch.run.id
        return [self._row(run, tick.at, json.loads(tick.data)) for tick in islice(passing, most)]

    def _row(self, run: str, at: int, record: dict[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = {"t": record["t"]}
        if self._view.stamp:
            row |= {"run": run, "at": at}
        if self._view.fields:
            found = ((name, _follow(record, parts)) for name, parts in self._paths)
            return row | {self._name(name): value for name, value in found if value is not _MISSING}
        return row | {self._name(name): value for name, value in record.items() if name != "t"}

    def _name(self, name: str) -> str:
        return f"data.{name}" if name in self._stamped else name

    def columns(self) -> Columns:
        """Those that are there whatever the ticks hold."""
        own: Columns = {"t": "int", "run": "text", "at": "int"} if self._view.stamp else {"t": "int"}
        return own | {self._name(name): "none" for name, _ in self._paths}


def _follow(value: Any, parts: Sequence[str]) -> Any:
    """What a path leads to, through objects and each element of arrays."""
    for at, part in enumerate(parts):
        if isinstance(value, list):
            found = (_follow(one, parts[at:]) for one in value if isinstance(one, dict | list))
            return [one for one in found if one is not _MISSING]
        if not isinstance(value, dict) or part not in value:
            return _MISSING
        value = value[part]
    return value


def note(columns: Columns, rows: Iterable[dict[str, Any]]) -> None:
    """Widen columns to what these rows hold."""
    for row in rows:
        for name, value in row.items():
            known = columns.get(name)
            if known != "json":
                columns[name] = _join(known or "none", _kind(value))


def _kind(value: Any) -> Kind:
    match value:
        case None:
            return "none"
        case bool():
            return "bool"
        case int():
            return "int" if -(1 << 63) <= value < 1 << 63 else "json"
        case float():
            return "float"
        case str():
            return "text"
    return "json"


def _join(a: Kind, b: Kind) -> Kind:
    if a == b or b == "none":
        return a
    if a == "none":
        return b
    return "float" if {a, b} == {"int", "float"} else "json"


def _cell(kind: Kind, value: Any) -> Any:
    """A value as its column holds it."""
    if value is None:
        return None
    return float(value) if kind == "float" else _json(value) if kind == "json" else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Table(Protocol):
    """A form of a table; see ``ranges.Lines`` for what its parts are."""

    media_type: str

    def begin(self) -> bytes: ...
    def more(self, rows: Sequence[dict[str, Any]]) -> bytes: ...
    def end(self) -> bytes: ...
    @property
    def whole(self) -> bool: ...


class CSV:
    """RFC 4180, with a line feed at the end of each line. What is null or missing is empty; an empty text is ``""``."""

    media_type = "text/csv; charset=utf-8; header=present"
    whole = True

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def begin(self) -> bytes:
        """The names of the columns."""
        return (",".join(map(_quoted, self._columns)) + "\n").encode()

    def more(self, rows: Sequence[dict[str, Any]]) -> bytes:
        """A line a row."""
        columns = self._columns.items()
        lines = (",".join(_text(kind, row.get(name)) for name, kind in columns) for row in rows)
        return "".join(line + "\n" for line in lines).encode()

    def end(self) -> bytes:
        """Nothing."""
        return b""


def _text(kind: Kind, value: Any) -> str:
    if value is None:
        return ""
    return _quoted(value) if kind == "text" else _quoted(_json(value)) if kind == "json" else _json(value)


def _quoted(text: str) -> str:
    if text and not any(mark in text for mark in '",\r\n') and text.strip() == text:
        return text
    return '"' + text.replace('"', '""') + '"'


class Arrow:
    """The stream format of Arrow's IPC, in batches of a thousand rows."""

    media_type = "application/vnd.apache.arrow.stream"

    def __init__(self, columns: Columns) -> None:
        arrow = _arrow()
        kinds: dict[Kind, Callable[[], Any]] = {
            "none": arrow.null, "bool": arrow.bool_, "int": arrow.int64, "float": arrow.float64, "text": arrow.utf8,
            "json": arrow.utf8,
        }  # fmt: skip
        self._arrow, self._columns = arrow, columns
        self._schema = arrow.schema([(name, kinds[kind]()) for name, kind in columns.items()])
        self._pending: list[dict[str, Any]] = []

    def begin(self) -> bytes:
        """The schema."""
        return bytes(self._schema.serialize())

    def more(self, rows: Sequence[dict[str, Any]]) -> bytes:
        """Full batches."""
        self._pending += rows
        ready = len(self._pending) - len(self._pending) % _ROWS
        full, self._pending = self._pending[:ready], self._pending[ready:]
        return b"".join(self._batch(full[at : at + _ROWS]) for at in range(0, ready, _ROWS))

    def end(self) -> bytes:
        """The last batch, and the mark of the end."""
        return (self._batch(self._pending) if self._pending else b"") + _ARROW_END

    @property
    def whole(self) -> bool:
        """Whether no rows are held back."""
        return not self._pending

    def _batch(self, rows: Sequence[dict[str, Any]]) -> bytes:
        arrays = [
            self._arrow.array([_cell(kind, row.get(name)) for row in rows], type=self._schema.field(at).type)
            for at, (name, kind) in enumerate(self._columns.items())
        ]
        return bytes(self._arrow.record_batch(arrays, schema=self._schema).serialize())


TABLES: Final[dict[str, type[CSV] | type[Arrow]]] = {"csv": CSV, "arrow": Arrow}


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        told = "arrow needs pyarrow where the gateway runs: pip install 'tick-gateway[arrow]'"
        raise ParameterError("format", told) from None
    return pyarrow


def empty(form: str, view: View) -> bytes:
    """A table without a row."""
    table = TABLES[form](Rows(view).columns())
    return table.begin() + table.end()


def check(form: str) -> None:
    """Refuse a form for which a library is missing.

    Raises:
        ParameterError: it is.
    """
    if form == "arrow":
        _arrow()

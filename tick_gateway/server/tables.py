"""Ranges as tables: CSV and Arrow, for tools that want columns.

A table has one row per tick. Its columns are ``t``, with ``stamp`` also ``run`` and ``at``, and then: with ``fields``,
each path; without, each member of any tick in the range, in order of first appearance, up to ``MAX_COLUMNS``. A path
through an array gives an array of the values that it leads to. Objects and arrays are written to cells as JSON, and so
are all values of a column whose ticks have different types.

The names and types of columns are known only after the whole range has been read, which happens before the first byte
is sent. A cell is a slice of its tick, whose first byte shows its type, so nothing is parsed for that.

Ticks are processed in slices of bounded bytes and cells; the event loop runs in between.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Literal, NamedTuple, Protocol

import orjson
from msgspec import Raw
from msgspec.json import Decoder

from ..errors import ParameterError
from ..model.tick import PublishedTick
from ..model.view import View
from ..reading.cursor import Span

MAX_COLUMNS: Final = 1000
MAX_NAMES: Final = 256 << 10  # characters of all names

Kind = Literal["none", "bool", "int", "float", "text", "json"]
Columns = dict[str, Kind]
Row = dict[str, bytes]
"""A tick's cells by column: JSON, as it was published."""

_ROWS: Final = 1000  # in an Arrow batch
_BATCH_CELLS: Final = 1 << 15  # in an Arrow batch, approximately
_BATCH_BYTES: Final = 4 << 20
_SLICE_CELLS: Final = 1 << 12
_SLICE_BYTES: Final = 64 << 10
_ARROW_END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_STAMP_COLUMNS: Final = ("t", "run", "at")
_MISSING: Final = object()
_NULL: Final = b"null"
_members: Final = Decoder(dict[str, Raw]).decode
_KINDS: Final[dict[int, Kind]] = {
    ord("n"): "none", ord("t"): "bool", ord("f"): "bool", ord('"'): "text", ord("{"): "json", ord("["): "json",
}  # fmt: skip


class Slice(NamedTuple):
    """Some ticks of a span as rows; all ticks up to ``t`` that pass are included."""

    t: int
    rows: list[Row]


class Rows:
    """Converts ticks to rows."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._stamped = _STAMP_COLUMNS if view.stamp else ("t",)
        self._paths = [(self._name(path), path.split(".")) for path in view.fields if path != "t"]

    def of(self, span: Span, most: int | None, columns: int) -> Iterator[Slice]:
        """The rows of ticks that pass, at most ``most``; ``columns``: the number of columns so far."""
        run = b'"%s"' % span.batch.run.id.encode()
        rows: list[Row] = []
        size, full = 0, max(_SLICE_CELLS // columns, 1)
        for tick in islice((tick for tick in span.ticks if self._view.passes(tick.t)), most):
            if rows and (len(rows) >= full or size + len(tick.data) > _SLICE_BYTES):
                yield Slice(int(rows[-1]["t"]), rows)
                rows, size = [], 0
            rows.append(self._row(run, tick))
            size += len(tick.data)
        yield Slice(span.position.t, rows)

    def _row(self, run: bytes, tick: PublishedTick) -> Row:
        row: Row = {"t": b"%d" % tick.t}
        if self._view.stamp:
            row["run"], row["at"] = run, b"%d" % tick.at
        members = _members(tick.data)
        if not self._view.fields:
            row.update((self._name(name), bytes(value)) for name, value in members.items() if name != "t")
            return row
        for name, path in self._paths:
            if (found := _value_at(members, path)) is not None:
                row[name] = found
        return row

    def _name(self, name: str) -> str:
        """The name of a member's column, so that no two are the same."""
        own = name
        while own.startswith("data."):
            own = own[5:]
        return f"data.{name}" if own in self._stamped else name

    def columns(self) -> Columns:
        """The columns that do not depend on the ticks' content."""
        own: Columns = {"t": "int", "run": "text", "at": "int"} if self._view.stamp else {"t": "int"}
        return own | {name: "none" for name, _ in self._paths}


def _value_at(members: dict[str, Raw], path: Sequence[str]) -> bytes | None:
    """The value at a path, which goes through objects and each element of arrays; None: there is none."""
    for at, part in enumerate(path, 1):
        if part not in members:
            return None
        value = bytes(members[part])
        if at == len(path):
            return value
        if value.startswith(b"["):
            return json.dumps(
                _values_at(json.loads(value), path[at:]), ensure_ascii=False, separators=(",", ":")
            ).encode()
        if not value.startswith(b"{"):
            return None
        members = _members(value)
    return None


def _values_at(array: list[Any], path: Sequence[str]) -> list[Any]:
    """The values that a path leads to in each element. Not recursive: arrays may be deep."""
    found: list[Any] = []
    todo = [(array, 0, found)]
    while todo:
        elements, begin, into = todo.pop()
        for element in elements:
            value, at = element, begin
            while at < len(path) and isinstance(value, dict):
                value, at = value.get(path[at], _MISSING), at + 1
            if at == len(path) and value is not _MISSING:
                into.append(value)
            elif isinstance(value, list):
                inner: list[Any] = []
                into.append(inner)
                todo.append((value, at, inner))
    return found


def widen_columns(columns: Columns, rows: Iterable[Row]) -> None:
    """Widen columns to include these rows.

    Raises:
        ParameterError: there are too many columns.
    """
    before = len(columns)
    for row in rows:
        for name, value in row.items():
            known = columns.get(name)
            if known is None and len(columns) >= MAX_COLUMNS:
                raise _too_wide()
            if known != "json":
                columns[name] = _common_kind(known or "none", _kind(value))
    if len(columns) > before and sum(map(len, columns)) > MAX_NAMES:
        raise _too_wide()


def _too_wide() -> ParameterError:
    return ParameterError(
        "format",
        f"the ticks of this range have more than {MAX_COLUMNS} different members (or {MAX_NAMES} characters of names), "
        "which is the most that a table takes; name those that are wanted (fields), or take json or ndjson",
    )


def _kind(value: bytes) -> Kind:
    if (kind := _KINDS.get(value[0])) is not None:
        return kind
    if b"." in value or b"e" in value or b"E" in value:
        return "float"
    return "int" if len(value) < 19 or -(1 << 63) <= int(value) < 1 << 63 else "json"


def _common_kind(a: Kind, b: Kind) -> Kind:
    if a == b or b == "none":
        return a
    if a == "none":
        return b
    return "float" if {a, b} == {"int", "float"} else "json"


def _text(value: bytes) -> str:
    """The text of a JSON string."""
    return value[1:-1].decode() if b"\\" not in value else str(orjson.loads(value))


class TableFormat(Protocol):
    """A format of tables; for its methods, see ``ranges.NDJSONFormat``."""

    media_type: str

    def begin(self) -> bytes: ...
    def more(self, rows: Sequence[Row]) -> bytes: ...
    def end(self) -> bytes: ...
    @property
    def whole(self) -> bool: ...


class CSVFormat:
    """RFC 4180, with a line feed at the end of each line. Null or missing values are empty; an empty text is ``""``."""

    media_type = "text/csv; charset=utf-8; header=present"
    whole = True

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def begin(self) -> bytes:
        """The header line."""
        return (",".join(map(_quoted, self._columns)) + "\n").encode()

    def more(self, rows: Sequence[Row]) -> bytes:
        """One line per row."""
        columns = self._columns.items()
        lines = (",".join(_field(kind, row.get(name, _NULL)) for name, kind in columns) for row in rows)
        return "".join(line + "\n" for line in lines).encode()

    def end(self) -> bytes:
        """Nothing."""
        return b""


def _field(kind: Kind, value: bytes) -> str:
    if value == _NULL:
        return ""
    return _quoted(_text(value)) if kind == "text" else _quoted(value.decode()) if kind == "json" else value.decode()


def _quoted(text: str) -> str:
    if text and not any(seek_point in text for seek_point in '",\r\n') and text.strip() == text:
        return text
    return '"' + text.replace('"', '""') + '"'


_cells: Final[dict[Kind, Callable[[bytes], Any]]] = {
    "none": lambda value: None, "bool": lambda value: value == b"true", "int": int, "float": float, "text": _text,
    "json": bytes.decode,
}  # fmt: skip
"""A cell as Arrow takes it."""


class ArrowFormat:
    """Arrow's IPC stream format, in batches of a thousand rows; fewer if they are wide."""

    media_type = "application/vnd.apache.arrow.stream"

    def __init__(self, columns: Columns) -> None:
        arrow = _arrow()
        kinds: dict[Kind, Callable[[], Any]] = {
            "none": arrow.null, "bool": arrow.bool_, "int": arrow.int64, "float": arrow.float64, "text": arrow.utf8,
            "json": arrow.utf8,
        }  # fmt: skip
        self._arrow, self._columns = arrow, columns
        self._schema = arrow.schema([(name, kinds[kind]()) for name, kind in columns.items()])
        self._full = max(min(_ROWS, _BATCH_CELLS // len(columns)), 1)
        self._pending: list[Row] = []
        self._size = 0

    def begin(self) -> bytes:
        """The schema."""
        return bytes(self._schema.serialize())

    def more(self, rows: Sequence[Row]) -> bytes:
        """Full batches."""
        full: list[bytes] = []
        for row in rows:
            self._pending.append(row)
            self._size += sum(map(len, row.values()))
            if len(self._pending) >= self._full or self._size >= _BATCH_BYTES:
                full.append(self._batch(self._pending))
                self._pending, self._size = [], 0
        return b"".join(full)

    def end(self) -> bytes:
        """The last batch, and the end-of-stream marker."""
        return (self._batch(self._pending) if self._pending else b"") + _ARROW_END

    @property
    def whole(self) -> bool:
        """Whether no rows are buffered."""
        return not self._pending

    def _batch(self, rows: Sequence[Row]) -> bytes:
        arrays = [
            self._arrow.array(_column(kind, [row.get(name, _NULL) for row in rows]), type=self._schema.field(at).type)
            for at, (name, kind) in enumerate(self._columns.items())
        ]
        return bytes(self._arrow.record_batch(arrays, schema=self._schema).serialize())


def _column(kind: Kind, values: Sequence[bytes]) -> list[Any]:
    cell = _cells[kind]
    return [None if value == _NULL else cell(value) for value in values]


TABLE_FORMATS: Final[dict[str, type[CSVFormat] | type[ArrowFormat]]] = {"csv": CSVFormat, "arrow": ArrowFormat}


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        told = "arrow needs pyarrow where the gateway runs: pip install 'tick-gateway[arrow]'"
        raise ParameterError("format", told) from None
    return pyarrow


def empty_table(format: str, view: View) -> bytes:
    """A table without rows."""
    table = TABLE_FORMATS[format](Rows(view).columns())
    return table.begin() + table.end()


def require_library(format: str) -> None:
    """Refuse a format whose library is not installed.

    Raises:
        ParameterError: it is not installed.
    """
    if format == "arrow":
        _arrow()

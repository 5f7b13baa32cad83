"""Records become strict JSON or a clear error: one table of each, and what must hold for every record."""

from __future__ import annotations

import copy
import enum
import gc
import json
import math
import struct
import uuid
from array import array
from collections import OrderedDict, UserDict, UserList, abc, defaultdict, deque, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.bus.record_encoder import NanPolicy, encode
from tick_gateway.errors import RecordError

NAN = float("nan")
Point = namedtuple("Point", "x y")  # the untyped kind is what simulations have


class Colour(enum.Enum):
    RED = "red"
    NONE = None
    LOST = NAN


class Level(enum.IntEnum):
    HIGH = 3


class Metres(float):
    pass


class Named(enum.StrEnum):
    X = "x"


class Old(str, enum.Enum):  # noqa: UP042 - how it was written before StrEnum
    X = "y"


class Moment(datetime):
    pass


class Day(date):
    pass


class Id(uuid.UUID):
    pass


class Count(int):
    def __int__(self) -> int:
        return 99

    def __str__(self) -> str:
        return "ninety-nine"


@dataclass
class Agent:
    id: int
    x: Any = 0.0
    _cache: object = field(default_factory=object)


@dataclass
class Placed:
    at: Any


@dataclass(slots=True)
class Slotted:
    x: Any


@dataclass
class Below(Slotted):
    y: int


@dataclass(slots=True, repr=False)
class Unset:
    x: int
    y: int = field(init=False)


BARE: Any = tzinfo  # no type checker lets it be made; programs do


class Zone(BARE):  # type: ignore[misc]
    """A time zone that cannot be asked more than ``times`` times; a dict asks its keys."""

    def __init__(self, times: int = 0) -> None:
        self.times = times

    def utcoffset(self, moment: datetime | None) -> timedelta:
        self.times -= 1
        if self.times < 0:
            raise LookupError("no such zone")
        return timedelta(0)


class Rising(abc.Mapping[str, int]):
    """A mapping that can be read until it is looked into."""

    def __getitem__(self, key: str) -> int:
        raise LookupError("not loaded")

    def __iter__(self) -> Iterator[str]:
        return iter(["x"])

    def __len__(self) -> int:
        return 1


class Other(dict[str, Any]):
    """A dict that shows something else than it holds."""

    def __getitem__(self, key: str) -> Any:
        return "shown"

    def items(self) -> Any:
        return {"shown": 1}.items()

    def values(self) -> Any:
        return {"shown": 1}.values()


class HasToList:
    def tolist(self) -> list[int]:
        return [1, 2]


class RaisesInItsClass:
    """As some proxies do whose object is gone."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise ReferenceError("gone")


class RaisesInIdentifier(str):
    def isidentifier(self) -> bool:
        raise LookupError("of its own")


class RaisesInToList:
    def tolist(self) -> list[int]:
        raise LookupError("of its own")


class Wordless:
    def __repr__(self) -> str:
        raise LookupError("no words")


def nested(levels: int, innermost: object = 0) -> dict[str, Any]:
    """Objects in each other, ``levels`` deep."""
    record: Any = innermost
    for _ in range(levels):
        record = {"a": record}
    assert isinstance(record, dict)
    return record


VALUES: list[tuple[str, object, object]] = [
    ("none", None, None),
    ("bools", [True, False], [True, False]),
    ("text", 'ü "\n\u2028 \x00', 'ü "\n\u2028 \x00'),
    ("negative zero", -0.0, -0.0),
    ("smallest", 5e-324, 5e-324),
    ("64 bits", [2**64 - 1, -(2**63)], [2**64 - 1, -(2**63)]),
    ("beyond 64 bits", [2**64, -(2**63) - 1, 10**300], [2**64, -(2**63) - 1, 10**300]),
    ("integer keys", {1: {2: 3}}, {"1": {"2": 3}}),
    ("odd keys", {None: 1, True: 2, 1.5: 3, Level.HIGH: 4}, {"null": 1, "true": 2, "1.5": 3, "3": 4}),
    ("time keys", {date(2020, 1, 2): 1, uuid.UUID(int=1): 2}, {"2020-01-02": 1, str(uuid.UUID(int=1)): 2}),
    ("numpy keys", {np.int64(4): 1, np.float32(0.5): 2}, {"4": 1, "0.5": 2}),
    ("enum keys", {Named.X: 1, Old.X: 2, Colour.RED: 3}, {"x": 1, "y": 2, "red": 3}),
    (
        "keys of subclasses",
        {Moment(2020, 1, 2, 3): 1, Day(2020, 1, 2): 2, Id(int=1): 3, Count(5): 4, Metres(2.5): 5},
        {"2020-01-02T03:00:00": 1, "2020-01-02": 2, str(uuid.UUID(int=1)): 3, "5": 4, "2.5": 5},
    ),
    (
        "keys as they would be values",
        {Decimal("1.10"): 1, timedelta(seconds=2): 2, PurePosixPath("a/b"): 3, np.datetime64(5, "ns"): 4},
        {"1.10": 1, "2.0": 2, "a/b": 3, "1970-01-01T00:00:00.000000005": 4},
    ),
    ("values of subclasses", [Named.X, Old.X, Id(int=1), Count(5)], ["x", "y", str(uuid.UUID(int=1)), 5]),
    ("a dict that shows something else", Other(a=1), {"a": 1}),
    ("tuple", (1, (2,)), [1, [2]]),
    ("namedtuple", Point(1, 2), [1, 2]),
    ("set", {3, 1, 2}, [1, 2, 3]),
    ("frozenset", frozenset("b"), ["b"]),
    ("deque", deque([1, deque([2])]), [1, [2]]),
    ("range", range(3), [0, 1, 2]),
    ("dict views", [{"a": 1}.keys(), {"a": 1}.values(), {"a": 1}.items()], [["a"], [1], [["a", 1]]]),
    ("dicts", [OrderedDict(a=1), defaultdict(int, b=2)], [{"a": 1}, {"b": 2}]),
    ("mapping proxy", MappingProxyType({"a": 1}), {"a": 1}),
    ("user types", [UserDict(a=1), UserList([1])], [{"a": 1}, [1]]),
    ("dataclass", Agent(1), {"id": 1, "x": 0.0}),
    ("dataclass in dataclass", Agent(1, Slotted({2})), {"id": 1, "x": {"x": [2]}}),
    ("dataclass below one with slots", Below(1, 2), {"x": 1, "y": 2}),
    ("enums", [Colour.RED, Colour.NONE, Level.HIGH], ["red", None, 3]),
    ("datetime", datetime(2020, 1, 2, 3, 4, 5, 6), "2020-01-02T03:04:05.000006"),
    ("datetime in UTC", datetime(2020, 1, 2, tzinfo=UTC), "2020-01-02T00:00:00+00:00"),
    (
        "datetime with an offset",
        datetime(2020, 1, 2, tzinfo=timezone(timedelta(hours=1, seconds=7))),
        "2020-01-02T00:00:00+01:00:07",
    ),
    ("datetime subclasses", [Moment(2020, 1, 2, 3), Day(2020, 1, 2)], ["2020-01-02T03:00:00", "2020-01-02"]),
    ("date, time", [date(2020, 1, 2), time(3, 4)], ["2020-01-02", "03:04:00"]),
    ("time in UTC", time(3, 4, tzinfo=UTC), "03:04:00+00:00"),
    ("timedelta", timedelta(minutes=1, milliseconds=500), 60.5),
    ("decimal", [Decimal("0.10"), Decimal("-1E+5"), Decimal("0E-9")], [0.10, -1e5, 0.0]),
    ("uuid", uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    ("path", PurePosixPath("a/b"), "a/b"),
    ("float subclass", Metres(2.5), 2.5),
    ("dataclasses with places", [Placed((1, np.float64(0.5))), Placed([True])], [{"at": [1, 0.5]}, {"at": [True]}]),
    ("times within these", [Placed((1, np.datetime64("2020-01-02T03:04")))], [{"at": [1, "2020-01-02T03:04:00"]}]),
    ("keys within these", [Placed([{1: 2}]), Placed(())], [{"at": [{"1": 2}]}, {"at": []}]),
    ("array", array("d", [1.5]), [1.5]),
    ("tolist", HasToList(), [1, 2]),
    (
        "numpy scalars",
        [np.float64(1.5), np.float32(0.1), np.float16(2), np.int8(-3), np.bool_(True)],
        [1.5, 0.1, 2, -3, True],
    ),
    ("numpy text", [np.str_("a"), np.array(["b"])], ["a", ["b"]]),
    ("longdouble", [np.longdouble(2), np.array([2], dtype="g")], [2.0, [2.0]]),
    ("0-d", np.array(5), 5),
    ("strided", np.arange(6)[::2], [0, 2, 4]),
    ("fortran order", np.asfortranarray(np.arange(4).reshape(2, 2)), [[0, 1], [2, 3]]),
    ("big endian", np.array([1.5, 2], dtype=">f8"), [1.5, 2]),
    ("empty", [np.zeros(0), np.zeros((2, 0))], [[], [[], []]]),
    ("object array", np.array([{"a": np.int64(1)}, None], dtype=object), [{"a": 1}, None]),
    ("masked", np.ma.masked_array([1.0, 2.0], [False, True]), [1.0, None]),
    ("structured", np.array([(1, 2.5)], dtype=[("id", "i4"), ("x", "f8")]), [{"id": 1, "x": 2.5}]),
    (
        "structured, of many kinds",
        np.array(
            [(1, 0.1, 0.1, True, 'a"%,b', "2020-01-02", "2020", 1500, [1, 2], (3,), None)] * 2,
            dtype=[
                ("%i", ">i4"),
                ("f", "f4"),
                ("d", "f8"),
                ("b", "?"),
                ("s", "U5"),
                ("day", "M8[D]"),
                ("ns", "M8[ns]"),
                ("took", "m8[ms]"),
                ("a", "i2", 2),
                ("n", [("x", "u1")]),
                ("o", "O"),
            ],
        ),
        [
            {
                "%i": 1,
                "f": 0.1,
                "d": 0.1,
                "b": True,
                "s": 'a"%,b',
                "day": "2020-01-02T00:00:00",
                "ns": "2020-01-01T00:00:00",
                "took": 1.5,
                "a": [1, 2],
                "n": {"x": 3},
                "o": None,
            }
        ]
        * 2,
    ),
    ("structured, empty", np.zeros(0, dtype=[("x", "f8")]), []),
    ("structured, two dimensions", np.zeros((1, 2), dtype=[("x", "i1")]), [[{"x": 0}, {"x": 0}]]),
    ("structured, strided", np.array([(1,), (2,), (3,)], dtype=[("x", "f2")])[::-2], [{"x": 3}, {"x": 1}]),
    (
        "structured, masked",
        np.ma.masked_array(np.array([(1, 2.5)], dtype=[("i", "i4"), ("x", "f8")]), [(False, True)]),
        [{"i": 1, "x": None}],
    ),
    ("records", np.rec.array([(1, 0.5)], dtype=[("i", "i4"), ("x", "f8")]), [{"i": 1, "x": 0.5}]),
    ("datetime64", np.datetime64("2020-01-02"), "2020-01-02T00:00:00"),
    (
        "datetime64 with all digits",
        [
            np.datetime64("2020-01-02T03:04:05.123456789"),
            np.datetime64("2020-01-02T03:04:05.123456000", "ns"),
            np.datetime64("2020-01-02T03:04:05.000000000", "ns"),
            np.datetime64(1, "ps"),
            np.datetime64(-1, "as"),
        ],
        [
            "2020-01-02T03:04:05.123456789",
            "2020-01-02T03:04:05.123456",
            "2020-01-02T03:04:05",
            "1970-01-01T00:00:00.000000000001",
            "1969-12-31T23:59:59.999999999999999999",
        ],
    ),
    (
        "datetime64 array in nanoseconds",
        np.array([1, 10**9], dtype="M8[ns]"),
        ["1970-01-01T00:00:00.000000001", "1970-01-01T00:00:01"],
    ),
    (
        "datetime64 array",
        np.array(["2020", "2021"], dtype="M8[ns]")[::-1],
        ["2021-01-01T00:00:00", "2020-01-01T00:00:00"],
    ),
    ("timedelta64", [np.timedelta64(1500, "ms"), np.array([2], dtype="m8[m]")], [1.5, [120.0]]),
    ("300 deep", nested(300), nested(300)),
]


@pytest.mark.parametrize(("value", "expected"), [pytest.param(v, e, id=n) for n, v, e in VALUES])
def test_value(value: object, expected: object) -> None:
    policies: tuple[NanPolicy, ...] = ("refuse", "null")
    for nan in policies:
        data = encode({"t": 0, "v": value}, nan=nan)
        assert json.loads(data) == {"t": 0, "v": expected}
        orjson.loads(data)
    # Beside an integer beyond 64 bits everything goes the careful way, which has to agree.
    careful = json.loads(encode({"t": 0, "v": value, "big": 2**64}))
    assert careful == {"t": 0, "v": expected, "big": 2**64}


REFUSED: list[tuple[str, object, str, str]] = [
    ("nan", NAN, "v", "NaN"),
    ("infinity", [1, {"x y": math.inf}], "v[1]['x y']", "Infinity"),
    ("negative infinity", -math.inf, "v", "-Infinity"),
    ("beside a real null", {"a": None, "b": NAN}, "v.b", "NaN"),
    ("in a dataclass", [Slotted(1), Slotted(NAN)], "v[1].x", "NaN"),
    ("in a dataclass's tuple", [Placed((1, 2)), Placed((1, NAN))], "v[1].at[1]", "NaN"),
    ("in an enum", Colour.LOST, "v", "NaN"),
    ("in an array", np.array([[1, 2], [3, NAN]], dtype="f4"), "v[1][1]", "NaN"),
    ("in a strided array", np.array([0, 0, NAN])[::2], "v[1]", "NaN"),
    ("in a set", {NAN}, "v[0]", "NaN"),
    ("numpy scalar", np.float16("inf"), "v", "Infinity"),
    ("decimal NaN", Decimal("sNaN"), "v", "NaN"),
    ("under integer keys", {3: {4: NAN}}, "v[3][4]", "NaN"),
    ("NaT", np.datetime64("NaT"), "v", "NaT"),
    ("NaT in nanoseconds", np.datetime64("NaT", "ns"), "v", "NaT"),
    ("NaT in days", np.array(["2020-01-01", "NaT"], dtype="M8[D]"), "v[1]", "NaT"),
    ("NaT in an array of arrays", np.array([["2020", "NaT"]], dtype="M8[s]"), "v[0][1]", "NaT"),
    ("NaT before all others", np.array([["NaT", "2020"]], dtype="M8[s]"), "v[0][0]", "NaT"),
    ("no duration", np.timedelta64("NaT", "s"), "v", "NaN"),
]


@pytest.mark.parametrize(("value", "path", "word"), [pytest.param(v, p, w, id=n) for n, v, p, w in REFUSED])
def test_not_finite(value: object, path: str, word: str) -> None:
    with pytest.raises(RecordError, match=f"{word} has no JSON form") as caught:
        encode({"t": 0, "v": value})
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: {word} ")
    nulled = encode({"t": 0, "v": value}, nan="null")
    assert b"null" in nulled
    assert orjson.loads(nulled)["t"] == 0


def cyclic(kind: str) -> object:
    record: dict[str, Any] = {}
    record["a"] = [record] if kind == "dict" else deque([record])
    return record


ERRORS: list[tuple[str, object, str, str]] = [
    ("complex", {"a": [1j]}, "a[0]", "complex"),
    ("complex array", {"a": np.array([1j])}, "a", "complex"),
    ("bytes", {"a": b"x"}, "a", "bytes"),
    ("numpy bytes", {"a": np.array([b"x"])}, "a[0]", "bytes"),
    ("memoryview", {"a": memoryview(b"x")}, "a", "memoryview"),
    ("iterator", {"a": iter(())}, "a", "tuple_iterator"),
    ("function", {"a": print}, "a", "builtin_function"),
    ("class", {"a": Agent}, "a", "the class .*Agent"),
    ("object", {"a": {"b c": object()}}, "a['b c']", "object"),
    ("tuple key", {"grid": {(1, 2): 3}}, "grid", r"the key \(1, 2\) is .* tuple"),
    ("NaN key", {"a": {NAN: 1}}, "a", "NaN"),
    ("keys that become one", {"a": {1: "x", "1": "y"}}, "a", 'two keys become one in JSON: "1"'),
    ("lone surrogate", {"a": ["\ud800"]}, "a[0]", "surrogate"),
    ("lone surrogate in a key", {"a": {"\ud800": 1}}, "a", "surrogate"),
    ("513 deep", nested(513), ".".join("a" * 60), "nested deeper than 512"),
    ("cyclic", cyclic("dict"), "a[0]", "contains itself"),
    ("cyclic deque", cyclic("deque"), "a[0]", "contains itself"),
    ("integer like infinity", {"a": 2**1024}, "a", "integer is beyond"),
    ("enormous integer", {"a": 10**5000}, "a", "integer is beyond"),
    ("decimal like infinity", {"a": Decimal("1E+400")}, "a", "Decimal is beyond"),
    ("years", {"a": [np.timedelta64(1, "Y")]}, "a[0]", "timedelta64 in years"),
    ("months", {"a": np.array([1, 2], dtype="m8[M]")}, "a", "timedelta64 in months"),
    ("attoseconds", {"a": {"b": np.timedelta64(1, "as")}}, "a.b", "timedelta64 in attoseconds"),
    ("beyond all years", {"a": np.datetime64(2**62, "Y")}, "a", "years 1 to 9999"),
    ("seconds beyond all years", {"a": np.datetime64(-(2**60), "s")}, "a", "years 1 to 9999"),
    ("raises below an odd key", {RaisesInIdentifier("a"): [1, float("nan")]}, "['a'][1]", "NaN"),
    (
        "raises in tolist",
        {"a": [1, RaisesInToList()]},
        "a[1]",
        "RaisesInToList cannot be read: LookupError: of its own",
    ),
    (
        "raises in its time zone",
        {"a": datetime(2020, 1, 2, tzinfo=Zone())},
        "a",
        "datetime cannot be read: LookupError",
    ),
    ("time zone that is none", {"a": [datetime(2020, 1, 2, tzinfo=BARE())]}, "a[0]", "NotImplementedError"),
    ("time with such a zone", {"a": time(1, tzinfo=Zone())}, "a", "no such zone"),
    ("key with such a zone", {"a": {datetime(2020, 1, 2, tzinfo=Zone(1)): 1}}, "a", "no such zone"),
    ("empty slot", {"a": Unset(1)}, "a", "Unset cannot be read: AttributeError"),
    ("empty slot among integer keys", {"a": {1: Unset(1)}}, "a[1]", "Unset cannot be read: AttributeError"),
    ("raises in a mapping", {"a": Rising()}, "a", "Rising cannot be read: LookupError: not loaded"),
    ("raises in repr", {"a": {Wordless(): 1}}, "a", "the key that stands there"),
    ("fragment as a key", {"a": {orjson.Fragment(b"1"): 1}}, "a", "keys are strings or become strings"),
    ("NaT key", {"a": {np.datetime64("NaT"): 1}}, "a", "NaT"),
    ("in a structured array", {"a": np.array([(0, 1j)], dtype=[("i", "i4"), ("z", "c16")])}, "a[0].z", "complex"),
    ("year 20200", {"a": np.array([["20200-01"]], dtype="M8[M]")}, "a[0][0]", "years 1 to 9999"),
]


@pytest.mark.parametrize(("record", "path", "words"), [pytest.param(r, p, w, id=n) for n, r, p, w in ERRORS])
def test_error_names_path_and_value(record: object, path: str, words: str) -> None:
    with pytest.raises(RecordError, match=words) as caught:
        encode(record)
    assert caught.value.path[: len(path)] == path
    assert len(str(caught.value)) < 500
    str(caught.value).encode()  # printable, whatever stood in the record


@pytest.mark.parametrize("record", [None, 5, "x", [1], Point(1, 2), np.zeros(2), {1, 2}, Colour.RED, Agent], ids=repr)
def test_no_object(record: object) -> None:
    with pytest.raises(RecordError) as caught:
        encode(record)
    assert caught.value.path == ""


@pytest.mark.parametrize(
    "record",
    [{"t": 1}, Agent(1), Slotted(1), MappingProxyType({"t": 1}), OrderedDict(t=1), np.zeros(1, dtype=[("t", "i4")])[0]],
    ids=lambda r: type(r).__name__,
)
def test_object(record: object) -> None:
    assert isinstance(orjson.loads(encode(record)), dict)


def test_512_deep_is_accepted() -> None:
    assert json.loads(encode(nested(512))) == nested(512)


def test_digits_are_kept() -> None:
    assert encode({"d": Decimal("0.1000000000000000000001"), "i": 2**70}) == (
        b'{"d":0.1000000000000000000001,"i":1180591620717411303424}'
    )


def test_float32_is_written_short() -> None:
    assert encode({"x": np.float32(0.1), "y": np.array([0.1], dtype="f4")}) == b'{"x":0.1,"y":[0.1]}'


def test_what_the_record_s_own_code_raised_is_the_error_s_cause() -> None:
    with pytest.raises(RecordError) as caught:
        encode({"a": RaisesInToList()})
    assert isinstance(caught.value.__cause__, LookupError)


def test_nothing_stops_the_record_s_own_code() -> None:
    class Interrupted:
        def tolist(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode({"a": Interrupted()})


def test_a_dict_that_changes_while_it_is_read() -> None:
    record: dict[str, Any] = {"big": 2**64}

    class Changes(HasToList):
        def tolist(self) -> list[int]:
            record[f"new {len(record)}"] = 1
            return [1]

    record["a"] = Changes()
    with pytest.raises(RecordError, match="changed while it was read"):
        encode(record)


def test_line_ends_within_strings_are_escaped() -> None:
    data = encode({"t": 1, "\u2028": "a\u2029b\x85c", "d": "\u2027\u202aÂ"})
    assert data == '{"t":1,"\\u2028":"a\\u2029b\\u0085c","d":"\u2027\u202aÂ"}'.encode()
    assert data.decode().splitlines() == [data.decode()]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), plain))
def test_plain_records_come_back_equal(record: dict[str, Any]) -> None:
    data = encode(record)
    orjson.loads(data)
    assert json.loads(data) == record
    assert b"\n" not in data and b"\r" not in data


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters()),  # with surrogates
    st.binary(),
    st.complex_numbers(),
    st.decimals(),
    st.datetimes(),
    st.timedeltas(),
    st.uuids(),
    st.floats(width=32).map(np.float32),
    st.integers(-(2**63), 2**63 - 1).map(lambda n: np.datetime64(n, "ns")),
    st.integers(-(2**63), 2**63 - 1).map(lambda n: np.datetime64(n, "s")),
    st.lists(st.floats()).map(np.array),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1).map(lambda n: np.array([n], dtype="M8[s]")),
    st.lists(st.integers(-(2**15), 2**15 - 1)).map(lambda n: np.array(n, dtype="i2")[::-1]),
    st.sets(st.integers() | st.text(max_size=2)),
    st.integers(-(2**63), 2**63 - 1).map(lambda n: np.datetime64(n, "Y")),
    st.integers(-(2**63), 2**63 - 1).map(lambda n: np.timedelta64(n, "as")),
    st.lists(st.tuples(st.floats(width=32), st.text("ab%", max_size=2))).map(
        lambda rows: np.array(rows, dtype=[("x", "f4"), ("%s", "U2")])
    ),
    st.sampled_from([Colour.LOST, Colour.NONE, Slotted(NAN), object(), HasToList(), RaisesInToList(), Unset(1)]),
    st.sampled_from([Zone(), UTC, None]).map(lambda zone: datetime(2020, 1, 2, tzinfo=zone)),
)
keys = (
    st.text()
    | st.integers(-3, 3)
    | st.sampled_from(["1", "2", None, True, NAN, np.int64(1), (1, 2), Named.X, Old.X, Id(int=1), Moment(2020, 1, 2)])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.lists(inner).map(deque) | st.builds(Agent, inner),
    max_leaves=10,
)


def has_no_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in pairs}) == len(pairs)
    return dict(pairs)


@given(st.dictionaries(keys, anything), st.sampled_from(["refuse", "null"]))
def test_strict_json_or_a_clear_error(record: dict[Any, Any], nan: Any) -> None:
    try:
        data = encode(record, nan=nan)
    except RecordError as error:
        str(error).encode()
        return
    orjson.loads(data)
    json.loads(data, object_pairs_hook=has_no_duplicate_keys, parse_constant=pytest.fail)


@given(
    st.lists(st.floats(), min_size=1, max_size=12), st.sampled_from(["f8", "f4", "f2", ">f8", "g"]), st.integers(1, 3)
)
def test_arrays_say_what_their_elements_say(numbers: list[float], dtype: str, stride: int) -> None:
    with np.errstate(over="ignore"):
        values = np.array([numbers, numbers]).astype(dtype)[:, ::stride]
    written = orjson.loads(encode({"v": values}, nan="null"))["v"]
    for row, expected in zip(written, values.tolist(), strict=True):
        for got, want in zip(row, map(float, expected), strict=True):
            if math.isfinite(want):
                assert struct.pack("<e" if dtype == "f2" else "<f" if dtype == "f4" else "<d", got) == struct.pack(
                    "<e" if dtype == "f2" else "<f" if dtype == "f4" else "<d", want
                )
            else:
                assert got is None
    if np.isfinite(values).all():
        assert encode({"v": values}) == encode({"v": values}, nan="null")
    else:
        with pytest.raises(RecordError, match=r"v\[0\]\["):
            encode({"v": values})


def test_the_record_is_not_changed() -> None:
    record = {"t": 1, "a": [{1: deque([1])}, {2, 3}], "n": np.array([1.0, NAN])[::-1], "b": 2**65}
    before = copy.deepcopy(record)
    encode(record, nan="null")
    assert repr(record) == repr(before)


def test_an_object_whose_class_cannot_be_asked_for() -> None:
    """Made here, and gone behind it: others ask all objects there are for their classes."""
    with pytest.raises(RecordError, match=r"a\[0\].*RaisesInItsClass"):
        encode({"a": [RaisesInItsClass()]})
    gc.collect()

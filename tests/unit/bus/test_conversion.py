"""What values that are no plain JSON become, and data frames in records: pandas, polars, Mesa's ``DataCollector``."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import mesa
import numpy as np
import pandas as pd
import polars as pl
import pytest

from tick_gateway.bus.conversion import NAN, NAT, NotSerializable, kind, simplify
from tick_gateway.bus.record_encoder import NanPolicy, encode
from tick_gateway.errors import RecordError

NANOSECONDS = pl.Series([1, None], dtype=pl.Int64).cast(pl.Datetime("ns"))
TYPED = pd.DataFrame({"x": [0.1, 0.25], "n": [1, 2], "s": ["a", 'b"%,'], "ok": [True, False]})

FRAMES: list[tuple[str, Any, object]] = [
    (
        "frame",
        TYPED,
        [{"x": 0.1, "n": 1, "s": "a", "ok": True}, {"x": 0.25, "n": 2, "s": 'b"%,', "ok": False}],
    ),
    ("float32", TYPED[["x"]].astype("float32"), [{"x": 0.1}, {"x": 0.25}]),
    ("no rows", TYPED[:0], []),
    ("no columns", TYPED[[]], []),
    ("rows left out, turned", TYPED[["n"]][::-1], [{"n": 2}, {"n": 1}]),
    ("index without a name", TYPED[["n"]].set_axis(["p", "q"]), [{"n": 1}, {"n": 2}]),
    ("index with a name", TYPED[["s", "n"]].set_index("s"), [{"s": "a", "n": 1}, {"s": 'b"%,', "n": 2}]),
    (
        "index of two levels",
        TYPED.set_index(["n", "ok"])[["x"]],
        [{"n": 1, "ok": True, "x": 0.1}, {"n": 2, "ok": False, "x": 0.25}],
    ),
    ("columns that are numbers", pd.DataFrame([[1, 2]]), [{"0": 1, "1": 2}]),
    ("columns of both kinds", pd.DataFrame([[1, 2]], columns=["a", 1]), [{"a": 1, "1": 2}]),
    ("missing", pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}), [{"a": 1}, {"a": None}]),
    ("NA", [pd.NA, {"a": pd.NA}], [None, {"a": None}]),
    ("objects", pd.DataFrame({"a": [{"b": np.float32(0.1)}, None]}), [{"a": {"b": 0.1}}, {"a": None}]),
    (
        "times",
        pd.DataFrame({"at": pd.to_datetime(["2020-01-02T03:04:05.000000007", "2020"], format="ISO8601")}),
        [{"at": "2020-01-02T03:04:05.000000007"}, {"at": "2020-01-01T00:00:00"}],
    ),
    (
        "times of a zone",
        pd.DataFrame({"at": pd.to_datetime(["2020-01-02"]).tz_localize("UTC"), "took": [pd.Timedelta(1500, "ms")]}),
        [{"at": "2020-01-02T00:00:00+00:00", "took": 1.5}],
    ),
    ("categories", pd.DataFrame({"a": pd.Categorical(["x", "y"])}), [{"a": "x"}, {"a": "y"}]),
    ("series", TYPED["x"].astype("float32"), [0.1, 0.25]),
    ("series of an own type", pd.Series([1, None], dtype="Int64"), [1, None]),
    ("index", TYPED.set_index("n").index, [1, 2]),
    (
        "timestamp keys",
        {pd.Timestamp(7): 1, pd.Timestamp("2020-01-02"): 2},
        {pd.Timestamp(7).isoformat(): 1, "2020-01-02T00:00:00": 2},
    ),
    ("polars", pl.DataFrame({"x": [0.5, None], "s": ["a", "b"]}), [{"x": 0.5, "s": "a"}, {"x": None, "s": "b"}]),
    ("polars float32", pl.DataFrame({"x": [0.1]}, schema={"x": pl.Float32}), [{"x": 0.1}]),
    ("polars, nested", pl.DataFrame({"a": [[1, 2]], "o": [{"x": 1}]}), [{"a": [1, 2], "o": {"x": 1}}]),
    ("polars, no rows", pl.DataFrame({"a": []}), []),
    (
        "polars times",
        pl.DataFrame({"d": [date(2020, 1, 2)], "at": [datetime(2020, 1, 2, 3)], "took": [timedelta(seconds=1.5)]}),
        [{"d": "2020-01-02", "at": "2020-01-02T03:00:00", "took": 1.5}],
    ),
    ("polars nanoseconds", NANOSECONDS, ["1970-01-01T00:00:00.000000001", None]),
    (
        "polars nanoseconds of a zone",
        NANOSECONDS.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"),
        ["1970-01-01T09:00:00.000000001+09:00", None],
    ),
    ("polars durations", NANOSECONDS.diff().fill_null(timedelta(seconds=2)), [2.0, 2.0]),
    ("polars series", pl.Series([1, None]), [1, None]),
    ("polars float32 and nothing", pl.Series([0.1, None], dtype=pl.Float32), [0.1, None]),
    (
        "polars lists",
        pl.Series([[1, None], None, []], dtype=pl.List(pl.Datetime("ns"))),
        [["1970-01-01T00:00:00.000000001", None], None, []],
    ),
    ("polars arrays", pl.Series([[0.1, 0.25]], dtype=pl.Array(pl.Float32, 2)), [[0.1, 0.25]]),
    (
        "polars structs",
        pl.Series([{"at": 1, "x": [0.1]}, None], dtype=pl.Struct({"at": pl.Datetime("ns"), "x": pl.List(pl.Float32)})),
        [{"at": "1970-01-01T00:00:00.000000001", "x": [0.1]}, None],
    ),
    (
        "polars lists of structs",
        pl.Series([[{"took": 1}, None]], dtype=pl.List(pl.Struct({"took": pl.Duration("ns")}))),
        [[{"took": 1e-9}, None]],
    ),
]


@pytest.mark.parametrize(("value", "expected"), [pytest.param(v, e, id=n) for n, v, e in FRAMES])
def test_a_frame_is_an_array_of_rows(value: object, expected: object) -> None:
    policies: tuple[NanPolicy, ...] = ("refuse", "null")
    for nan in policies:
        assert json.loads(encode({"t": 0, "v": value}, nan=nan)) == {"t": 0, "v": expected}
    careful = json.loads(encode({"t": 0, "v": value, "big": 2**64}))
    assert careful == {"t": 0, "v": expected, "big": 2**64}, "beside it everything goes the careful way"


ERRORS: list[tuple[str, Any, str, str]] = [
    ("NaN", pd.DataFrame({"x": [1.0, float("nan")]}), "v[1].x", "NaN"),
    ("NaT", pd.DataFrame({"x": pd.to_datetime([None, "2020"])}), "v[0].x", "NaT"),
    ("NaT in objects", [pd.NaT], "v[0]", "NaT"),
    ("NaT as a key", {pd.NaT: 1}, "v", "NaT"),
    ("NaN in polars", pl.DataFrame({"x": [float("nan")]}), "v[0].x", "NaN"),
    ("two columns of one name", pd.DataFrame([[1, 2]], columns=["a", "a"]), "v", "two columns.* named 'a'"),
    ("two that become one", pd.DataFrame([[1, 2]], columns=["1", 1]), "v[0]", 'two keys become one in JSON: "1"'),
    ("an index named as a column", pd.DataFrame({"a": [1]}, index=pd.Index([1], name="a")), "v", "two columns.* 'a'"),
    ("columns of two levels", pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "v", "levels"),
    ("lazy", pl.LazyFrame({"a": [1]}), "v", r"collect\(\)"),
    ("bytes", pl.DataFrame({"a": [b"x"]}), "v[0].a", "bytes"),
]


@pytest.mark.parametrize(("value", "path", "words"), [pytest.param(v, p, w, id=n) for n, v, p, w in ERRORS])
def test_a_frame_that_has_no_form(value: object, path: str, words: str) -> None:
    with pytest.raises(RecordError, match=words) as caught:
        encode({"t": 0, "v": value})
    assert caught.value.path == path


class Walker(mesa.Agent):  # type: ignore[misc]
    def __init__(self, model: Any, x: float) -> None:
        super().__init__(model)
        self.x = x


def test_the_frames_of_a_data_collector() -> None:
    model: Any = mesa.Model()
    collector = mesa.DataCollector({"count": lambda model: len(model.agents)}, {"x": "x"})
    for x in (0.5, 1.5):
        Walker(model, x)
    collector.collect(model)
    record = {"t": 0, "model": collector.get_model_vars_dataframe(), "agents": collector.get_agent_vars_dataframe()}
    told = json.loads(encode(record))
    assert told["model"] == [{"count": 2}]
    assert told["agents"] == [{"Step": 0, "AgentID": 1, "x": 0.5}, {"Step": 0, "AgentID": 2, "x": 1.5}]


class Colour(Enum):
    RED = 1


class Half(float):
    pass


@dataclass
class Point:
    x: int
    _hidden: int = 0


@dataclass(slots=True)
class Slotted:
    x: int
    y: int


class Lazy:
    def tolist(self) -> list[int]:
        return [1, 2]


SIMPLER: list[tuple[Any, object]] = [
    (Point(1), {"x": 1}),
    (Slotted(1, 2), {"x": 1, "y": 2}),
    (Colour.RED, 1),
    (Half(0.5), 0.5),
    (date(2026, 1, 2), "2026-01-02"),
    (datetime(2026, 1, 2, 3), "2026-01-02T03:00:00"),
    (timedelta(milliseconds=1500), 1.5),
    (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (PurePosixPath("a/b"), "a/b"),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset(["b", "a"]), ["a", "b"]),
    (range(3), [0, 1, 2]),
    (deque([1, 2]), [1, 2]),
    (MappingProxyType({"a": 1}), {"a": 1}),
    ({"a": 1}.values(), [1]),
    (np.float32(0.5), 0.5),
    (np.int64(3), 3),
    (np.timedelta64(1500, "ms"), 1.5),
    (np.datetime64("2026-01-02T03:04:05.000000007"), "2026-01-02T03:04:05.000000007"),
    (np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")])[0], {"a": 1, "b": 2.5}),
    (pd.NA, None),
    (Lazy(), [1, 2]),
]


@pytest.mark.parametrize(("value", "simpler"), SIMPLER, ids=lambda value: type(value).__name__)
def test_a_step_towards_plain_json(value: Any, simpler: object) -> None:
    assert simplify(value) == simpler


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"x", "a value of type bytes has no JSON form"),
        (memoryview(b"x"), "memoryview"),
        (1j, "complex"),
        (object(), "a value of type object has no JSON form"),
        (int, "the class int has no JSON form"),
        (np.array([1j]), "complex numbers"),
        (np.timedelta64(1, "Y"), "in years has no form in seconds"),
        (np.datetime64("12026-01-01"), "outside the years 1 to 9999"),
        (pl.LazyFrame({"a": [1]}), "collect() it"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns"),
        (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "several levels"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_form_says_why(value: Any, why: str) -> None:
    with pytest.raises(NotSerializable) as error:
        simplify(value)
    assert why in str(error.value)


@pytest.mark.parametrize("value", [np.datetime64("NaT"), pd.NaT])
def test_no_time_at_all_is_told_from_no_number(value: Any) -> None:
    assert simplify(value) is NAT


def test_an_infinite_decimal_is_no_number() -> None:
    assert simplify(Decimal("inf")) is NAN
    with pytest.raises(NotSerializable, match="beyond 1.8e308"):
        simplify(Decimal("1e400"))


def test_a_type_in_a_sentence_is_never_asked_of_the_value() -> None:
    class Proxy:
        @property
        def __class__(self) -> Any:
            raise RuntimeError("do not ask me")

        @__class__.setter
        def __class__(self, value: Any) -> None: ...

    assert kind(Proxy()).endswith("Proxy") and kind(dict) == "the class dict" and kind(1) == "a value of type int"

"""Data frames in records: pandas and polars, and what Mesa's ``DataCollector`` gives."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from typing import Any

import mesa
import numpy as np
import pandas as pd
import polars as pl
import pytest

from tick_gateway.bus.record import NanPolicy, encode
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

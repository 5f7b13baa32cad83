"""What a simulation may hand to ``TickBus.publish``, and what is said of the rest."""

from __future__ import annotations

import enum
import json
from collections import UserDict
from collections.abc import Callable
from dataclasses import InitVar, dataclass
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

import numpy as np
import orjson
import pytest

from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.errors import (
    Malformed,
    RecordError,
    TickError,
    TooBig,
)
from tick_gateway.model.tick import MAX_T
from tick_gateway.settings import Settings

from ...support.bus import ticks_of


@dataclass
class Step:
    t: Any
    x: Any = 1.5


@dataclass
class Asked:
    x: int = 2

    @property
    def t(self) -> int:
        return 7


@dataclass
class OfTheClass:
    t: ClassVar[int] = 7
    x: int = 2


@dataclass
class AtTheStart:
    t: InitVar[int] = 7
    x: int = 2


class Shown(dict[str, Any]):
    """A dict that shows another number than it holds."""

    def __getitem__(self, key: str) -> Any:
        return 7


class Name(enum.StrEnum):
    T = "t"


ADMITTED: dict[str, tuple[Any, dict[str, object]]] = {
    "dict": ({"t": 1, "x": [1]}, {"t": 1, "x": [1]}),
    "bytes": (b' {"t":1,\n"x":1.50} ', {"t": 1, "x": 1.5}),
    "bytearray": (bytearray(b'{"t":1}'), {"t": 1}),
    "memoryview": (memoryview(b'{"t":1}'), {"t": 1}),
    "str": ('{"t":1,"x":"ü"}', {"t": 1, "x": "ü"}),
    "dataclass": (Step(1), {"t": 1, "x": 1.5}),
    "numpy t": ({"t": np.int64(1)}, {"t": 1}),
    "numpy t in a dataclass": (Step(np.uint8(1)), {"t": 1, "x": 1.5}),
    "another number is shown": (Shown(t=1, x=2), {"t": 1, "x": 2}),
    "behind others": (UserDict(x=2, t=1), {"x": 2, "t": 1}),
    "the name is an enum's": ({Name.T: 1}, {"t": 1}),
    "whole Decimal": ({"t": Decimal(1)}, {"t": 1}),
    "beside a key that looks like it": ({"x": {"t": 5}, "t": np.int8(1)}, {"x": {"t": 5}, "t": 1}),
    "JSON already": (orjson.Fragment(b'{"t":5,"t":1}'), {"t": 1}),
    "numpy arrays": ({"t": 1, "x": np.arange(4).reshape(2, 2)}, {"t": 1, "x": [[0, 1], [2, 3]]}),
}


@pytest.mark.parametrize("name", ADMITTED)
def test_records_of_many_kinds_are_published(name: str) -> None:
    record, meaning = ADMITTED[name]
    bus = TickBus()
    assert bus.publish(record)
    bus.collect()
    tick = bus.ring[0].ticks[0]
    assert (tick.t, json.loads(tick.data)) == (1, meaning)
    assert b"\n" not in tick.data


REFUSED: dict[str, tuple[Any, type[TickError], str]] = {
    "no t": ({"x": 1}, Malformed, 'no member "t"'),
    "no t in a dataclass": (json.JSONDecoder, RecordError, "class"),
    "a property": (Asked(), Malformed, 'no member "t" (its number); of a dataclass, fields alone are members'),
    "of the class": (OfTheClass(), Malformed, 'no member "t" (its number); of a dataclass, fields alone are members'),
    "of its making": (AtTheStart(), Malformed, 'no member "t" (its number); of a dataclass, fields alone are members'),
    "another number is shown": (Shown(t=-1), Malformed, "0 <= t"),
    "Decimal with a fraction": ({"t": Decimal("1.0")}, Malformed, "1.0"),
    "bool": ({"t": True}, Malformed, "true or false"),
    "float": ({"t": 1.0}, Malformed, "1.0"),
    "numpy float": ({"t": np.float64(1)}, Malformed, "1.0"),
    "text": ({"t": "1"}, Malformed, "a string"),
    "negative": ({"t": -1}, Malformed, "0 <= t"),
    "too large": ({"t": MAX_T + 1}, Malformed, "2^53"),
    "list": ([1], RecordError, "mapping"),
    "none": (None, RecordError, "mapping"),
    "NaN": ({"t": 1, "x": float("nan")}, RecordError, "x: NaN"),
    "NaN in JSON": (b'{"t":1,"x":NaN}', Malformed, "NaN"),
    "lone surrogate": ('{"t":1,"x":"\ud800"}', Malformed, "UTF-8"),
    "too big": ({"t": 1, "x": "x" * 1000}, TooBig, "at most 500"),
    "too big, a dataclass": (Step(1, np.ones(1000)), TooBig, "at most 500"),
    "too big, JSON": (b'{"t":1,"x":"' + b"x" * 1000 + b'"}', TooBig, "at most 500"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_tick_is_refused_and_the_next_one_taken(name: str) -> None:
    record, error, reason = REFUSED[name]
    bus = TickBus(Settings(max_tick=500))
    with pytest.raises(error) as refusal:
        bus.publish(record)
    assert reason in str(refusal.value)
    assert bus.publish({"t": 1})
    assert ticks_of(bus) == [1]


AS_TEXT = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize("form", [dict, UserDict, AS_TEXT])
def test_readers_get_one_line_whatever_its_strings_hold(form: Callable[..., object]) -> None:
    bus = TickBus()
    record = {"t": 1, "\u2028": "a\u2029b\x85"}
    assert bus.publish(form(record))
    again = json.dumps(record, separators=(",", ":")).encode()
    assert bus.publish(again) is False, "the same bytes, once it is escaped"
    bus.collect()
    (line,) = bus.ring[0].ticks[0].data.decode().splitlines()
    assert json.loads(line) == record


def test_nan_becomes_null_where_the_setting_says_so() -> None:
    bus = TickBus(Settings(nan="null"))
    bus.publish({"t": 1, "x": [float("nan"), np.float32("inf")]})
    bus.collect()
    assert json.loads(bus.ring[0].ticks[0].data) == {"t": 1, "x": [None, None]}


@pytest.mark.parametrize("wrap", [dict, lambda record: Step(1, record["x"])], ids=["dict", "dataclass"])
def test_records_nested_deeper_than_512_are_refused(wrap: Callable[[dict[str, Any]], object]) -> None:
    def nested(levels: int) -> object:
        value: object = 0
        for _ in range(levels - 1):
            value = [value]
        return wrap({"t": 1, "x": value})

    bus = TickBus()
    with pytest.raises(TickError, match="nested deeper than 512"):
        bus.publish(nested(513))
    assert bus.publish(nested(512))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("t=1&x=2", "a string is published as a tick's JSON, a dict as it is"),
        ('{"t": 1', "a string is published as a tick's JSON, a dict as it is"),
        ("{'t': 1}", "publish the dict itself, or json.dumps of it"),
        ('[{"t": 1}]', "publish several ticks one by one"),
    ],
)
def test_a_string_of_the_program_s_own_is_mended_in_the_program(text: str, told: str) -> None:
    with pytest.raises(Malformed) as refused:
        TickBus().publish(text)
    assert str(refused.value).endswith(told)
    assert "curl" not in str(refused.value) and "jq" not in str(refused.value)

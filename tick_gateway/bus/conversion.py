"""Converts values that JSON does not have, one step at a time, towards numbers, strings, lists and dicts.

``snapshot`` and the exact encoder of ``record_encoder`` share this, so that both support the same types. numpy, pandas
and polars are never imported here: their types are looked up only if the program has imported them. Pure: values are
never changed, and iterators are not consumed. Exceptions from a value's own code pass through; the encoder turns them
into an error with the value's path.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import abc
from collections.abc import Callable, Hashable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from operator import attrgetter
from pathlib import PurePath
from types import GetSetDescriptorType
from typing import Any, Final
from uuid import UUID

import orjson

NAN: Final = float("nan")
NAT: Final = float("-nan")  # a distinct object, so that an error can say NaT
OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_NO_SECONDS: Final = {"Y": "years", "M": "months", "as": "attoseconds"}  # units without a fixed number of seconds
_BELOW_MICROSECONDS: Final = ("ns", "ps", "fs", "as")


class NotSerializable(Exception):
    """A value has no JSON form; the message says why."""


class Tabular:
    """A table, from a structured numpy array or a data frame: in JSON, an array of objects with the same members.

    Attributes:
        names: of the columns.
        columns: their values, all of the same length: one-dimensional numpy arrays, or lists.
    """

    __slots__ = ("columns", "names")

    def __init__(self, names: Sequence[Hashable], columns: Sequence[Any]) -> None:
        self.names = names
        self.columns = columns

    def dicts(self) -> list[dict[Hashable, object]]:
        """One dict per row."""
        return [dict(zip(self.names, row, strict=True)) for row in zip(*self.columns, strict=True)]


def simplify(value: object) -> object:
    """Convert a value that orjson does not support, or does not handle correctly, to a simpler one.

    Raises:
        NotSerializable: it has no simpler form.
        Exception: whatever the value's own code raises.
    """
    if is_dataclass(value):
        return members(value)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return _from_numpy(value, numpy)
    match value:
        case Tabular():
            return value.dicts()
        case float():  # a subclass; orjson takes those of str, int, list and dict itself
            return float(value)
        case Enum():
            return value.value
        case Decimal():
            return orjson.Fragment(decimal(value)) if value.is_finite() else NAN
        case datetime() | time() | date():
            return NAT if value != value else value.isoformat()  # pandas.NaT is a datetime
        case timedelta():
            return value.total_seconds()
        case UUID() | PurePath():
            return str(value)
        case bytes() | bytearray() | memoryview() | complex():
            raise NotSerializable(f"{kind(value)} has no JSON form")
        case set() | frozenset():
            try:
                return sorted(value)
            except TypeError:
                return list(value)
        case abc.Mapping():
            return dict(value)
        case abc.Sequence() | abc.Set() | abc.ValuesView():
            return list(value)
    return _from_elsewhere(value)


def _from_elsewhere(value: object) -> object:
    """Convert a value from pandas or polars, or anything else that has ``tolist()``."""
    pandas: Any = sys.modules.get("pandas")
    if pandas is not None:
        if value is pandas.NA:
            return None
        if isinstance(value, pandas.DataFrame):
            return _pandas_rows(value)
        if isinstance(value, (pandas.Series, pandas.Index)):
            return _pandas_values(value)
    polars: Any = sys.modules.get("polars")
    if polars is not None:
        if isinstance(value, polars.DataFrame):
            return Tabular(value.columns, [_polars_values(column, polars) for column in value.iter_columns()])
        if isinstance(value, polars.Series):
            return _polars_values(value, polars)
        if isinstance(value, polars.LazyFrame):
            raise NotSerializable(f"{kind(value)} has no rows yet: collect() it")
    to_list = getattr(value, "tolist", None)
    if callable(to_list) and not isinstance(value, type):
        return to_list()
    raise NotSerializable(f"{kind(value)} has no JSON form")


def is_dataclass(value: object) -> bool:
    """Whether it is an instance of a dataclass; enum members are not, whatever their values."""
    cls: Any = type(value)
    found: bool = _is_dataclass(cls)
    return found


def members(value: Any) -> dict[str, object]:
    """The members of a dataclass instance, from its ``__dict__`` or its slots, without private ones (``_x``)."""
    cls: Any = type(value)
    return _slots_of(value) if _has_slots(cls) else _dict_of(value)


def _dict_of(value: Any) -> dict[str, object]:
    return public(dict.copy(value.__dict__))


def public(held: dict[str, object]) -> dict[str, object]:
    """The public members in a dict; it may return the same dict."""
    for name in held:
        if name[:1] == "_":
            return {name: item for name, item in held.items() if name[:1] != "_"}
    return held


@lru_cache(maxsize=1024)
def is_kept_in_dict(cls: Any) -> bool:
    """Whether a class is a dataclass whose instances keep their members in ``__dict__``, which is read in one step."""
    own = any(type(base.__dict__.get("__dict__")) not in (type(None), GetSetDescriptorType) for base in cls.__mro__)
    return _is_dataclass(cls) and not _has_slots(cls) and not own and cls.__getattribute__ is object.__getattribute__


@lru_cache(maxsize=1024)
def slots_of(cls: Any) -> tuple[list[str], Callable[[Any], tuple[object, ...]]] | None:
    """The names of the members of a dataclass with slots, and a getter for all of them; None for fewer than two members
    or any other class."""
    if not _is_dataclass(cls) or not _has_slots(cls) or len(names := _field_names(cls)) < 2:
        return None
    return names, attrgetter(*names)


def _slots_of(value: Any) -> dict[str, object]:
    cls: Any = type(value)
    return {name: getattr(value, name) for name in _field_names(cls)}


@lru_cache(maxsize=1024)
def _is_dataclass(cls: Any) -> bool:
    return hasattr(cls, "__dataclass_fields__") and not issubclass(cls, Enum)


@lru_cache(maxsize=1024)
def _field_names(cls: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if not field.name.startswith("_")]


@lru_cache(maxsize=1024)
def _has_slots(cls: Any) -> bool:
    """Whether a dataclass's fields have to be read one by one: not all of them are in a ``__dict__``."""
    return hasattr(cls, "__slots__") or not cls.__dictoffset__


# ---- numpy ----


def _from_numpy(value: Any, numpy: Any) -> object:
    """Convert a numpy scalar or array that orjson refused, or that it must not be given (``datetime64``)."""
    dtype = value.dtype
    if dtype.names:
        if value.ndim == 0:
            return {name: value[name] for name in dtype.names}
        # the rows of a masked one are masked too
        if value.ndim > 1 or type(value) not in (numpy.ndarray, numpy.recarray):
            return list(value)
        return Tabular(dtype.names, [value[name] for name in dtype.names])
    if dtype.kind == "m":
        return _seconds(value, numpy)
    if dtype.kind == "M":
        return list(value) if value.ndim else _moment(value[()], numpy)
    if dtype.kind == "c":
        raise NotSerializable(f"{kind(value)} that holds complex numbers has no JSON form")
    if type(value) is numpy.ndarray and value.ndim and dtype.kind in "biuf" and dtype.itemsize <= 8:
        if not (value.flags.c_contiguous and dtype.isnative):
            return value.astype(dtype.newbyteorder("="), order="C")
    simpler = value.tolist()
    return float(simpler) if isinstance(simpler, numpy.floating) else simpler  # longdouble has no Python equivalent


def _seconds(value: Any, numpy: Any) -> object:
    """A ``timedelta64``, or an array of them, in seconds."""
    unit = numpy.datetime_data(value.dtype)[0]
    if unit in _NO_SECONDS:
        raise NotSerializable(f"a numpy.timedelta64 in {_NO_SECONDS[unit]} has no form in seconds; use another unit")
    return value / numpy.timedelta64(1, "s")  # without a unit: seconds


def _moment(value: Any, numpy: Any) -> object:
    """A ``datetime64`` in ISO 8601, with all its digits."""
    if numpy.isnat(value):
        return NAT
    if numpy.datetime_data(value.dtype)[0] in _BELOW_MICROSECONDS:
        whole, _, fraction = str(numpy.datetime_as_string(value)).partition(".")
        fraction = fraction.rstrip("0")
        # like ``isoformat``, none or six digits; beyond that, multiples of three
        digits = max(6, -(-len(fraction) // 3) * 3)
        return f"{whole}.{fraction:0<{digits}}" if fraction else whole
    # a conversion to a finer unit may overflow
    if not 1 <= 1970 + int(value.astype("datetime64[Y]").astype(int)) <= 9999:
        raise NotSerializable(f"the numpy.datetime64 {value} is outside the years 1 to 9999")
    return value.astype("datetime64[us]").item().isoformat()


# ---- data frames ----


def _pandas_rows(frame: Any) -> Tabular:
    """The rows of a ``DataFrame``. Named levels of the index are members too, and come first."""
    index = frame.index
    levels = [level for level, name in enumerate(index.names) if name is not None]
    names: list[Hashable] = [*(index.names[level] for level in levels), *frame.columns]
    if frame.columns.nlevels > 1:
        raise NotSerializable("the pandas.DataFrame has columns of several levels; give each column one name")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise NotSerializable(
            f"the pandas.DataFrame has two columns, or a column and a level of its index, named {twice!a:.60}"
        )
    columns = [index.get_level_values(level) for level in levels]
    columns += [frame.iloc[:, place] for place in range(frame.shape[1])]
    return Tabular(names, [_pandas_values(column) for column in columns])


def _pandas_values(values: Any) -> Any:
    """The values of a ``Series`` or an ``Index``: an array if numpy has their type, else a list."""
    numpy = sys.modules["numpy"]
    return values.to_numpy() if isinstance(values.dtype, numpy.dtype) else values.tolist()


def _polars_values(series: Any, polars: Any) -> Any:
    """The values of a polars ``Series``, with all their digits; missing ones are None."""
    dtype = series.dtype
    if dtype == polars.Float32:
        numbers = series.fill_null(0.0).to_numpy()
        if not series.null_count():
            return numbers
        return [number if there else None for number, there in zip(numbers, series.is_not_null(), strict=True)]
    if getattr(dtype, "time_unit", None) == "ns":  # Python's own types end at microseconds
        if dtype == polars.Datetime:
            zone = "%:z" if dtype.time_zone else ""
            return series.dt.to_string(f"%Y-%m-%dT%H:%M:%S%.9f{zone}").to_list()
        return (series.dt.total_nanoseconds() / 1e9).to_list()
    if _has_finer(dtype, polars):
        return _nested_values(series, polars)
    return series.to_list()


def _has_finer(dtype: Any, polars: Any) -> bool:
    """Whether a polars type contains, at any depth, values that ``to_list`` would change."""
    if isinstance(dtype, polars.Struct):
        return any(_has_finer(field.dtype, polars) for field in dtype.fields)
    if isinstance(dtype, polars.List | polars.Array):
        return _has_finer(dtype.inner, polars)
    return bool(dtype == polars.Float32 or getattr(dtype, "time_unit", None) == "ns")


def _nested_values(series: Any, polars: Any) -> Any:
    """The values of a polars ``Series`` of lists, arrays or structs, each converted by its inner type."""
    dtype = series.dtype
    if isinstance(dtype, polars.Struct):
        names = [field.name for field in dtype.fields]
        columns = [_polars_values(series.struct.field(name), polars) for name in names]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return [row if there else None for row, there in zip(rows, series.is_not_null(), strict=True)]
    if isinstance(dtype, polars.List | polars.Array):
        return [None if part is None else _polars_values(part, polars) for part in series]
    return series.to_list()


def decimal(value: Decimal) -> bytes:
    """A finite Decimal as a JSON number with all its digits.

    Raises:
        NotSerializable: JSON readers would take it for infinity.
    """
    if float(value) in (float("inf"), float("-inf")):
        raise NotSerializable("the Decimal is beyond 1.8e308, which JSON readers take for infinity")
    return str(value).encode()


def kind(value: object) -> str:
    """Name the type of a value, for an error."""
    # By its type, not by ``__class__``, which may raise for a proxy.
    is_class = issubclass(type(value), type)
    cls: Any = value if is_class else type(value)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    return f"the class {name}" if is_class else f"a value of type {name}"

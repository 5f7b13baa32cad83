"""What a value that is no plain JSON becomes: one step towards numbers, strings, lists and dicts at a time.

The table that ``record`` and its careful writer share, so that both ways of encoding know the same types. numpy is
never imported here, only met. Pure; the values are never changed, and nothing that can be read only once is read.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import abc
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final

import orjson

NAN: Final = float("nan")
NAT: Final = float("-nan")  # an object of its own, so that an error can say NaT


class NoForm(TypeError):
    """A value that has no JSON form; the text says why. A TypeError, since orjson expects that of its hook."""


def simplify(value: object) -> object:
    """Turn a value that orjson does not know into one that is simpler (orjson's ``default`` hook).

    Raises:
        NoForm: there is none.
    """
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return _from_numpy(value, numpy)
    match value:
        case float():  # a subclass; orjson takes those of str, int, list and dict itself
            return float(value)
        case Enum():
            return value.value
        case Decimal():
            return orjson.Fragment(decimal(value)) if value.is_finite() else NAN
        case datetime() | time() | date():
            return NAT if value != value else value.isoformat()  # pandas has a datetime that is none
        case timedelta():
            return value.total_seconds()
        case PurePath():
            return str(value)
        case bytes() | bytearray() | memoryview() | complex():
            raise NoForm(f"{kind(value)} has no JSON form")
        case set() | frozenset():
            try:
                return sorted(value)
            except TypeError:
                return list(value)
        case abc.Mapping():
            return dict(value)
        case abc.Sequence() | abc.Set() | abc.ValuesView():
            return list(value)
    if is_dataclass(value):
        return {name: item for name, item in members(value) if not name.startswith("_")}
    to_list = getattr(value, "tolist", None)
    if callable(to_list) and not isinstance(value, type):
        return to_list()
    raise NoForm(f"{kind(value)} has no JSON form")


def is_dataclass(value: object) -> bool:
    """Whether it is an instance of a dataclass."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def members(value: Any) -> Iterator[tuple[str, object]]:
    """The members of a dataclass instance as orjson counts them: of its ``__dict__``, where it has one."""
    if hasattr(value, "__dict__") and not hasattr(type(value), "__slots__"):
        return iter(vars(value).items())
    return ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))


def _from_numpy(value: Any, numpy: Any) -> object:
    """Simplify a numpy scalar or array that orjson left, or that cannot be left to it (``datetime64``)."""
    dtype = value.dtype
    if dtype.names:
        return {name: value[name] for name in dtype.names} if value.ndim == 0 else list(value)
    if dtype.kind == "m":
        return value / numpy.timedelta64(1, "s")  # one without a unit counts as seconds
    if dtype.kind == "M":
        return list(value) if value.ndim else _moment(value[()], numpy)
    if dtype.kind == "c":
        raise NoForm(f"{kind(value)} that holds complex numbers has no JSON form")
    if type(value) is numpy.ndarray and value.ndim and dtype.kind in "biuf" and dtype.itemsize <= 8:
        if not (value.flags.c_contiguous and dtype.isnative):
            return value.astype(dtype.newbyteorder("="), order="C")
    simpler = value.tolist()
    return float(simpler) if isinstance(simpler, numpy.floating) else simpler  # longdouble has no Python twin


def _moment(value: Any, numpy: Any) -> object:
    """One ``datetime64``, exact to the microsecond."""
    if numpy.isnat(value):
        return NAT
    moment = value.astype("datetime64[us]").item()
    if not isinstance(moment, datetime):
        raise NoForm(f"the numpy.datetime64 {value} is outside the years 1 to 9999")
    return moment


def decimal(value: Decimal) -> bytes:
    """A finite Decimal as a JSON number with all its digits; NoForm where readers would take it for infinity."""
    if float(value) in (float("inf"), float("-inf")):
        raise NoForm("the Decimal is beyond 1.8e308, which JSON readers take for infinity")
    return str(value).encode()


def kind(value: object) -> str:
    """A value's type, for a sentence."""
    cls = value if isinstance(value, type) else type(value)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    return f"the class {name}" if isinstance(value, type) else f"a value of type {name}"

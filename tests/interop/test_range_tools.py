"""Tools that read history by its address, as they read a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.harness import Harness
from tests.support.stored_ticks import COUNT, harness

__all__ = ["harness"]


def _duckdb() -> Any:
    duckdb = pytest.importorskip("duckdb")
    pytest.importorskip("duckdb_extensions").import_extension("httpfs")
    connection = duckdb.connect()
    connection.load_extension("httpfs")
    return connection


def _pandas(url: str) -> list[int]:
    pandas = pytest.importorskip("pandas")
    found = pandas.read_json(url, lines=True, compression="zstd" if url.endswith(".zst") else "infer")
    return [int(t) for t in found["t"]]


def _polars(url: str) -> list[int]:
    polars = pytest.importorskip("polars")
    return [int(t) for t in polars.scan_ndjson(url).collect()["t"]]


def _polars_read(url: str) -> list[int]:
    polars = pytest.importorskip("polars")
    return [int(t) for t in polars.read_ndjson(url)["t"]]


def _duckdb_json(url: str) -> list[int]:
    found = _duckdb().sql(f"select t from read_json('{url}', format='newline_delimited') order by t").fetchall()
    return [int(t) for (t,) in found]


TOOLS: dict[str, Callable[[str], list[int]]] = {
    "pandas": _pandas,
    "polars scan": _polars,
    "polars read": _polars_read,
    "duckdb": _duckdb_json,
}
TABLE_TOOLS: dict[str, Callable[[str], Any]] = {
    "pandas": lambda url: pytest.importorskip("pandas").read_csv(url),
    "polars": lambda url: pytest.importorskip("polars").scan_csv(url).collect(),
    "polars read": lambda url: pytest.importorskip("polars").read_csv(url),
    "duckdb": lambda url: _duckdb().sql(f"select * from read_csv('{url}')").pl(),
}


@pytest.mark.parametrize("tool", TABLE_TOOLS)
async def test_tools_read_a_table_by_its_address(harness: Harness, tool: str) -> None:
    url = f"http://127.0.0.1:{harness.port}/range?run=A&t0=3&t1={COUNT - 100}&format=csv"
    found = await asyncio.to_thread(TABLE_TOOLS[tool], url)
    assert [int(t) for t in found["t"]] == list(range(3, COUNT - 99))
    assert list(found.columns) == ["t", "x", "name", "agents"]
    assert [float(x) for x in found["x"]] == [t / 2 for t in range(3, COUNT - 99)]


@pytest.mark.parametrize("tool", TOOLS)
async def test_tools_read_a_range_by_its_address(harness: Harness, tool: str) -> None:
    url = f"http://127.0.0.1:{harness.port}/range?run=A&t0=3&t1={COUNT - 100}"
    assert await asyncio.to_thread(TOOLS[tool], url) == list(range(3, COUNT - 99))


@pytest.mark.parametrize("tool", [name for name in TOOLS if name != "polars read"])
async def test_tools_read_files_by_their_address(harness: Harness, tool: str) -> None:
    """The sealed ones, and the open one as far as it is stored."""
    listed = (await harness.json("/segments"))["segments"]
    for one in (listed[0], listed[-1]):
        found = await asyncio.to_thread(TOOLS[tool], f"http://127.0.0.1:{harness.port}/{one['path']}")
        assert found == list(range(one["first"], one["last"] + 1))

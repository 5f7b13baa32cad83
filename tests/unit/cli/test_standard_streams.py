"""Standard input and output beside an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from tick_gateway.cli.standard_streams import Output, chunks

posix = pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")


async def test_input_is_never_read_far_ahead(tmp_path: Path) -> None:
    piece, data = 1 << 18, os.urandom(10 << 18)
    (tmp_path / "input").write_bytes(data)
    taken = b""
    with (tmp_path / "input").open("rb") as file:
        async for chunk in chunks(file.fileno()):
            taken += chunk
            await asyncio.sleep(0.01)  # gives a reader that ran ahead the time to; nothing waits for it
            assert os.lseek(file.fileno(), 0, os.SEEK_CUR) <= len(taken) + 2 * piece
    assert taken == data


@posix
async def test_output_goes_as_far_as_the_pipe_takes_it() -> None:
    """What is written is all there, and the loop runs while nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    data = os.urandom(1 << 20)
    output = Output(writing)
    task = asyncio.create_task(output.write(data))
    found = b""
    while len(found) < len(data):
        await asyncio.sleep(0)
        with contextlib.suppress(BlockingIOError):
            found += os.read(reading, 1 << 16)
    await task
    assert found == data and not output.closed.is_set()
    os.close(reading)
    await asyncio.wait_for(output.closed.wait(), 60)
    with pytest.raises(BrokenPipeError):
        await output.write(b"x")
    os.close(writing)


async def test_output_into_a_file(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as file:
        await Output(file.fileno()).write(b"x" * 10_000)
    assert (tmp_path / "output").read_bytes() == b"x" * 10_000

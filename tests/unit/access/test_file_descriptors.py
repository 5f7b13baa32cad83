"""Who may have the last file descriptors: readers stop first, then all connections, and files have the rest."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from typing import Any, cast

import pytest

from tick_gateway.access.file_descriptors import MIN_DESCRIPTORS, Descriptors, descriptor_of, raise_limit

resource = pytest.importorskip("resource")


class Transport:
    """One whose connection has a descriptor of this number."""

    def __init__(self, number: int | Exception | None) -> None:
        self._number = number

    def get_extra_info(self, name: str) -> Any:
        assert name == "socket"
        return None if self._number is None else self

    def fileno(self) -> int:
        if isinstance(self._number, Exception):
            raise self._number
        assert self._number is not None
        return self._number


def of(number: int | Exception | None) -> asyncio.BaseTransport:
    return cast(asyncio.BaseTransport, Transport(number))


@pytest.mark.parametrize(
    ("limit", "readers", "answers"),
    [
        (1024, 896, 960),
        (512, 384, 448),
        (256, 192, 224),
        (MIN_DESCRIPTORS, 24, 28),
        (1 << 20, (1 << 20) - 128, (1 << 20) - 64),
    ],
)
def test_how_many_are_kept(limit: int, readers: int, answers: int) -> None:
    """128 at most, a fourth of a low limit; half of them for files."""
    found = Descriptors(limit)
    assert (found.readers, found.answers) == (readers, answers)


@pytest.mark.parametrize(("taken", "scarce"), [(10, False), (895, False), (896, True), (1023, True)])
def test_from_which_number_on_they_are_scarce(taken: int, scarce: bool) -> None:
    assert Descriptors(1024).scarce(of(taken)) == scarce


@pytest.mark.parametrize("transport", [None, of(None), of(OSError("closed")), of(-1)])
def test_what_has_no_number_is_not_scarce(transport: asyncio.BaseTransport | None) -> None:
    assert descriptor_of(transport) == -1 and not Descriptors(1024).scarce(transport)


def test_a_connection_is_accepted_while_low_numbers_are_free() -> None:
    with socket.socket() as probe:
        assert Descriptors(1 << 20).free(probe.fileno())
        assert not Descriptors(2).free(probe.fileno())
        before = os.dup(probe.fileno())
        os.close(before)
        assert os.dup(probe.fileno()) == before, "looking takes none"
        os.close(before)


def test_without_a_single_one_that_is_an_error() -> None:
    with pytest.raises(OSError):
        Descriptors().free(1 << 20)


def test_the_limit_is_that_of_the_process() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        assert Descriptors().limit == min(soft, 512)
        assert raise_limit() == Descriptors().limit >= min(soft, 512)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_shortage_is_told_with_its_numbers_and_once(caplog: pytest.LogCaptureFixture) -> None:
    descriptors = Descriptors(1024)
    assert "896 of the 1024" in descriptors.shortage
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            descriptors.tell("readers are refused")
    assert caplog.messages == ["readers are refused"]


@pytest.mark.parametrize("closed", ["0", "1, 2", "0, 1, 2"])
def test_the_first_three_are_opened_where_the_process_has_none(closed: str) -> None:
    code = f"""
import os
from tick_gateway.access.file_descriptors import open_standard_streams
report = os.dup(1)
for number in ({closed},):
    os.close(number)
open_standard_streams()
for number in range(3):
    os.fstat(number)
os.write(report, b"all there")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, stdin=subprocess.DEVNULL)
    assert run.stdout == b"all there", run.stderr

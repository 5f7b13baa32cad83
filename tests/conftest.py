"""Fixtures of the tests that keep history."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faulty_disk import Disk
from tick_gateway.history import keeper

for name in [name for name in os.environ if name.startswith("TICK_GATEWAY_")]:
    del os.environ[name]  # gateways in Python heed them, and a developer's own must not count in tests


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other things is no slow disk."""
    monkeypatch.setattr(keeper, "LAG_SECONDS", 30.0)


@pytest.fixture
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged with one."""
    caplog.set_level(logging.INFO)
    yield
    assert not [record.getMessage() for record in caplog.records if record.exc_info]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Disk:
    """The disk under ``tmp_path``, in the test's hand."""
    return Disk(monkeypatch, tmp_path)

"""One gateway process for all of these tests, and the reader that is connected all along."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.process import GatewayProcess

from ...support.hostile import Truth


@pytest.fixture(scope="package")
def process() -> Iterator[Truth]:
    with GatewayProcess("serve") as gateway:
        banner = gateway.stderr.find("history is off")
        assert banner is not None
        start = gateway.stderr.lines
        truth = Truth(gateway)
        truth.new_run()
        yield truth
        truth.check()
        assert gateway.stderr.lines == start
        truth.follower.close()
    told = gateway.stderr.lines[len(start) :]
    assert len(told) <= 1 and all(line.startswith("stopping: ") for line in told)


@pytest.fixture
def truth(process: Truth) -> Iterator[Truth]:
    yield process
    process.check()

"""One gateway process for all of these tests, and the reader that is connected all along."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateway_process import GatewayProcess

from ...support.bad_input import Bystander


@pytest.fixture(scope="package")
def process() -> Iterator[Bystander]:
    with GatewayProcess("serve") as gateway:
        banner = gateway.stderr.find("history is off")
        assert banner is not None
        start = gateway.stderr.lines
        bystander = Bystander(gateway)
        bystander.new_run()
        yield bystander
        bystander.check()
        assert gateway.stderr.lines == start
        bystander.follower.close()
    told = gateway.stderr.lines[len(start) :]
    assert len(told) <= 1 and all(line.startswith("stopping: ") for line in told)


@pytest.fixture
def bystander(process: Bystander) -> Iterator[Bystander]:
    yield process
    process.check()

"""Fixtures of the conformance suite: the transports by flavour."""

from __future__ import annotations

import pytest

from tick_gateway.transports import TRANSPORTS

from ..support.readers.registry import FLAVOURS, flavours_of


def _flavours(kind: str | None = None) -> list[str]:
    """Every registered transport's flavours; a transport without a reader stands for itself, and fails when used."""
    names: list[str] = []
    for transport in TRANSPORTS:
        if kind in (None, transport.kind):
            try:
                names += flavours_of(transport.name)
            except LookupError:
                names.append(transport.name)
    return names


def _flavour(name: str) -> str:
    if name not in FLAVOURS:
        try:
            flavours_of(name)
        except LookupError as error:
            pytest.fail(str(error), pytrace=False)
    return name


@pytest.fixture(params=_flavours())
def flavour(request: pytest.FixtureRequest) -> str:
    """A way of reading a transport: tests that use it run once for each."""
    return _flavour(request.param)


@pytest.fixture(params=_flavours("stream"))
def stream(request: pytest.FixtureRequest) -> str:
    """The same, of the transports whose connection stays."""
    return _flavour(request.param)


@pytest.fixture(params=_flavours("pull"))
def pull(request: pytest.FixtureRequest) -> str:
    """The same, of the transports with an answer a request."""
    return _flavour(request.param)

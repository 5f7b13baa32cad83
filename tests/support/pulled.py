"""What an answer of a pull says beside its body."""

from __future__ import annotations

import re
from urllib.parse import urljoin

from .async_client import Response


def next_target(response: Response, path: str) -> str:
    """Where the header ``Link`` sends the client, from the address that it asked."""
    found = re.fullmatch(r'<([^>]+)>; rel="next"', response.headers["Link"])
    assert found is not None, response.headers["Link"]
    return str(urljoin(path, found[1]))


def told_beside(response: Response) -> tuple[str | None, ...]:
    """The headers ``Tick-Run``, ``Tick-Gap``, ``Tick-Reset`` and ``Tick-Next``."""
    return tuple(response.headers.get(f"Tick-{name}") for name in ("Run", "Gap", "Reset", "Next"))

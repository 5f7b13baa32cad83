"""One request and what a gateway in this process or another answers to it: shorthand for tests of anything else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from tests.support.async_client import request


async def ask(port: int, target: str) -> Any:
    """The JSON body of a GET that succeeds."""
    response = await request(port, target)
    answer = await response.json()
    assert response.status == 200, answer
    return answer


async def post(port: int, lines: Iterable[bytes], run: str) -> dict[str, Any]:
    """POST ticks; returns the gateway's counts."""
    body = b"".join(line + b"\n" for line in lines)
    media_type = {"Content-Type": "application/x-ndjson"}
    response = await request(port, f"/publish?run={run}", method="POST", headers=media_type, body=body)
    answer: dict[str, Any] = json.loads(await response.read())
    assert response.status == 200, answer
    return answer


async def range_of(port: int, run: str, **parameters: object) -> tuple[list[bytes], str | None]:
    """A run's ticks, and the header ``Tick-Gap``."""
    response = await request(port, f"/range?{urlencode({'run': run} | parameters)}")
    assert response.status == 200
    return (await response.read()).splitlines(), response.headers.get("Tick-Gap")


async def metric(port: int, name: str) -> float:
    """A metric without labels."""
    text = (await (await request(port, "/metrics")).read()).decode()
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])

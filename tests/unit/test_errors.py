"""The tree of errors, as it is printed at the head of its module, and what each error says."""

from __future__ import annotations

import inspect
import re

import pytest

from tick_gateway import errors
from tick_gateway.errors import GatewayError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GatewayError)]


def printed() -> dict[str, tuple[str | None, str]]:
    """Each error of the printed tree, with the one above it and what stands beside it."""
    found: dict[str, tuple[str | None, str]] = {}
    above: list[str] = []
    for indent, name, text in re.findall(r"^    ([│├└─ ]*)(\w+) *(.*)$", errors.__doc__ or "", re.MULTILINE):
        depth = len(indent) // 4
        above = [*above[:depth], name]
        found[name] = (above[-2] if depth else None, text)
    return found


def test_the_tree_is_that_of_the_classes() -> None:
    assert {name: above for name, (above, _) in printed().items()} == {
        kind.__name__: None if kind is GatewayError else kind.__mro__[1].__name__ for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_tree_tells_the_status(kind: type[GatewayError]) -> None:
    """Where one is told, it is the one that the class has."""
    told = re.match(r"\d{3}(?:/\d{3})*", printed()[kind.__name__][1])
    assert told is None or tuple(map(int, told[0].split("/"))) == (kind.statuses or (kind.status,))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_code_is_one_word_and_the_status_one_of_http(kind: type[GatewayError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
    assert all(400 <= status < 600 for status in kind.statuses or (kind.status,))
    assert (
        not kind.statuses or kind is errors.BodyError or issubclass(kind, errors.BodyError) or kind.status in (400, 403)
    )
    assert kind.__doc__ and kind.__doc__[0].isupper()


def test_the_body_of_an_answer() -> None:
    assert errors.NotFound("no run A").as_dict() == {"error": "not_found", "message": "no run A"}
    parameter = errors.UnknownParameter("limi", "unknown")
    assert parameter.as_dict() == {"error": "unknown_parameter", "message": "limi: unknown", "parameter": "limi"}
    assert errors.BodyTooBig(10).as_dict()["error"] == "too_big"
    assert str(errors.BadEncoding("br", ["gzip", "zstd"])).endswith("accepted: gzip or zstd, once")

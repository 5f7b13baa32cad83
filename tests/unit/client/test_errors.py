"""What an error says, in one line."""

from __future__ import annotations

import errno

import aiohttp
import pytest

from tick_gateway.client.errors import explain, message_of, retry_after


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":"x","message":"said by a gateway"}', "said by a gateway"),
        (b"one line\nand another", "one line"),
        (
            b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502</h1></body></html>",
            "502 Bad Gateway",
        ),
        (
            b"<html><body><h1>503 Service\n Unavailable</h1>\nNo server is available.\n</body></html>",
            "503 Service Unavailable",
        ),
        (b"<title>&lt;none&gt;</title>", "<none>"),
        (b"<p>nothing", ""),
        (b"", ""),
    ],
)
def test_what_an_error_says(body: bytes, words: str) -> None:
    assert message_of(body) == words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ECONNREFUSED, "whatever"), "Connection refused"),
        (OSError(-2, "Name or service not known"), "Name or service not known"),
        (ConnectionResetError(), "the connection was closed"),
        (TimeoutError(), "no sign of life in time"),
        (aiohttp.ClientPayloadError("400, message: x"), "the answer broke off"),
        (aiohttp.ServerDisconnectedError(), "the connection was closed"),
        (aiohttp.ClientError("two\n  lines"), "two lines"),
        (aiohttp.ClientError(), "ClientError"),
    ],
)
def test_network_errors_are_short_clauses(error: Exception, words: str) -> None:
    assert explain(error) == words


@pytest.mark.parametrize(
    ("header", "seconds"),
    [({}, None), ({"Retry-After": "7"}, 7.0), ({"Retry-After": "-1"}, 0.0), ({"Retry-After": "9999"}, 300.0),
     ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, None)],
)  # fmt: skip
def test_retry_after(header: dict[str, str], seconds: float | None) -> None:
    assert retry_after(header) == seconds

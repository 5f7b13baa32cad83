"""Python's HTTP clients, and programs: python -m tests.interop.readers.reader KIND (ID CODING URL)..."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable

_printing = threading.Lock()


def say(text: bytes) -> None:
    with _printing:
        sys.stdout.buffer.write(text + b"\n")
        sys.stdout.buffer.flush()


def show(ident: str, lines: Iterable[str | bytes]) -> None:
    for line in lines:
        raw = (line.encode() if isinstance(line, str) else line).rstrip(b"\r\n")
        if raw:
            say(f"{ident}|".encode() + raw)


def asked(coding: str) -> dict[str, str]:
    return {} if coding == "-" else {"Accept-Encoding": coding}


def urllib3(ident: str, coding: str, url: str) -> None:
    import urllib3

    headers = asked(coding) or urllib3.make_headers(accept_encoding=True)
    answer = urllib3.PoolManager().request("GET", url, headers=headers, preload_content=False)
    rest = b""
    for part in answer.stream(decode_content=True):
        *lines, rest = (rest + part).split(b"\n")
        show(ident, lines)
    show(ident, [rest])


def requests(ident: str, coding: str, url: str) -> None:
    import requests

    with requests.get(url, headers=asked(coding), stream=True, timeout=60) as answer:
        answer.encoding = "utf-8"
        show(ident, answer.iter_lines(decode_unicode=True))


def requests_whole(ident: str, coding: str, url: str) -> None:
    import requests

    show(ident, requests.get(url, headers=asked(coding), timeout=60).content.split(b"\n"))


def httpx(ident: str, coding: str, url: str) -> None:
    import httpx

    with httpx.stream("GET", url, headers=asked(coding), timeout=60) as answer:
        show(ident, answer.iter_lines())


def aiohttp(ident: str, coding: str, url: str) -> None:
    import aiohttp

    async def read() -> None:
        async with aiohttp.ClientSession() as session, session.get(url, headers=asked(coding)) as answer:
            async for line in answer.content:
                show(ident, [line])

    asyncio.run(read())


def curl(ident: str, coding: str, url: str) -> None:
    _program(
        ident, "curl", "-sSN", "--compressed", *(f"-H{name}: {value}" for name, value in asked(coding).items()), url
    )


def curl_plain(ident: str, coding: str, url: str) -> None:
    _program(ident, "curl", "-sSN", url)


def wget(ident: str, coding: str, url: str) -> None:
    _program(ident, "wget", "-q", "-O", "-", "--tries=1", *(["--compression=gzip"] if coding == "gzip" else []), url)


def _program(ident: str, *command: str) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        show(ident, process.stdout)
        said = process.stderr.read().decode().strip()
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {said}")


KINDS: dict[str, Callable[[str, str, str], None]] = {
    "urllib3": urllib3,
    "requests": requests,
    "requests-whole": requests_whole,
    "httpx": httpx,
    "aiohttp": aiohttp,
    "curl": curl,
    "curl-plain": curl_plain,
    "wget": wget,
}


def run(kind: str, ident: str, coding: str, url: str) -> None:
    try:
        KINDS[kind](ident, coding, url)
        say(f"{ident}.".encode())
    except Exception as error:
        say(f"{ident}!{error!r}".encode())


if __name__ == "__main__":
    kind, *given = sys.argv[1:]
    for at in range(0, len(given), 3):
        threading.Thread(target=run, args=(kind, *given[at : at + 3])).start()

"""Every way in makes the same of the same bytes: what is certain is taken, what is refused is told by its name."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import zstandard

from tests.support.blocking_client import Peer, request
from tests.support.frames import BINARY, TEXT, frame
from tests.support.gateway_process import GatewayProcess
from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.errors import TickError

MARK = b"\xef\xbb\xbf"

GOOD: list[tuple[bytes, bytes]] = [
    (MARK + '{"t":1,"x":"\u2028b\u2029\x85d\u2027"}'.encode(), '{"t":1,"x":"\\u2028b\\u2029\\u0085d\u2027"}'.encode()),
    (b'{"t": 2, "x": 1.10, "y": 1E-400, "z": 0.1000000000000000000001}', b""),
    (b' {"t":3,"x":"\\u2028\\/"} \r', b'{"t":3,"x":"\\u2028\\/"}'),
    (MARK + b'{"t":9}', b'{"t":9}'),  # of a file that was appended to another
]  # fmt: skip
BAD: list[tuple[bytes, str]] = [
    (b'{"t":4,"x":"\\ud800"}', r"the escape \\ud800 is a lone surrogate"),
    (b'{"t":4,"x":1e999}', r"the number 1e999 is beyond 1\.8e308"),
    (b'{"t":4,"x":' + b"9" * 5000 + b"}", r"the number 99999999999999999999\.\.\. .* is beyond 1\.8e308"),
    (b'{"t":4,"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "nested deeper than 512"),
]
WANTED = [delivered or published for published, delivered in GOOD]
FILE = b"".join(line + b"\n" for line in [*(line for line, _ in GOOD[:3]), *(line for line, _ in BAD), GOOD[3][0]])


class Entered(NamedTuple):
    """What became of it: the ticks that can be read, and what was said of those that cannot."""

    ticks: list[bytes]
    told: str


def ticks_of(gateway: GatewayProcess) -> list[bytes]:
    with urlopen(f"{gateway.url}/range", timeout=60) as answer:
        body: bytes = answer.read()
    return body.split(b"\n")[:-1]


def post(media_type: str, joined: Callable[[list[bytes]], bytes], folder: Path) -> Entered:
    with GatewayProcess() as gateway:
        body = joined([line for line in FILE.split(b"\n") if line])
        sent = Request(f"{gateway.url}/publish", body, {"Content-Type": media_type}, method="POST")
        with pytest.raises(HTTPError) as refusal:
            urlopen(sent, timeout=60)
        return Entered(ticks_of(gateway), refusal.value.read().decode().replace("\\\\", "\\"))


def lines(folder: Path) -> Entered:
    return post("application/x-ndjson", b"\n".join, folder)


def array(folder: Path) -> Entered:
    """JSON has no place for byte order marks between values, and brackets that are too many to follow break it."""

    def joined(parts: list[bytes]) -> bytes:
        few = [part.removeprefix(MARK).replace(b"[" * 19_400, b"").replace(b"]" * 19_400, b"") for part in parts]
        return MARK + b"[" + b",".join(few) + b"]"

    return post("application/json", joined, folder)


def websocket(folder: Path, opcode: int = TEXT) -> Entered:
    with GatewayProcess() as gateway, Peer(gateway.port) as peer:
        peer.open("/ws/publish")
        for line in FILE.split(b"\n")[:-1]:
            peer.send(frame(opcode, line))
        told = ""
        while '{"ack":9}' not in told:
            told += peer.frame().payload.decode().replace("\\\\", "\\")
        return Entered(ticks_of(gateway), told)


def binary(folder: Path) -> Entered:
    return websocket(folder, BINARY)


def standard_input(folder: Path) -> Entered:
    with GatewayProcess("serve", "--stdin", stdin=True) as gateway:
        assert gateway.process.stdin is not None
        gateway.process.stdin.write(FILE)
        gateway.close_stdin()
        assert gateway.stderr.find("nested deeper than 512")
        with Peer(gateway.port) as reader:
            reader.send(request("GET", "/ndjson?from_t=-1"))
            reader.until(b'{"t":9}')
        return Entered(ticks_of(gateway), gateway.stderr.text)


def publish_command(folder: Path) -> Entered:
    with GatewayProcess() as gateway:
        command = [sys.executable, "-m", "tick_gateway", "publish", gateway.url]
        done = subprocess.run(command, input=FILE, capture_output=True, timeout=60)
        return Entered(ticks_of(gateway), done.stderr.decode())


def followed(folder: Path, *options: str, name: str = "a.jsonl", content: bytes = FILE) -> Entered:
    (folder / "written").mkdir()
    (folder / "written" / name).write_bytes(content)
    with GatewayProcess("serve", "--tail", str(folder / "written"), *options) as gateway:
        return Entered(ticks_of(gateway), gateway.stderr.text)


def tail(folder: Path) -> Entered:
    return followed(folder)


def tail_into_history(folder: Path) -> Entered:
    return followed(folder, "--data", str(folder / "data"), name="a.jsonl.zst", content=zstandard.compress(FILE))


def in_process(form: Callable[[bytes], object]) -> Entered:
    bus, told = TickBus(), ""
    for line in FILE.split(b"\n")[:-1]:
        try:
            bus.publish(form(line))
        except TickError as error:
            told += f"{error}\n"
    bus.collect()
    return Entered([tick.data for batch in bus.ring for tick in batch.ticks], told)


def as_bytes(folder: Path) -> Entered:
    return in_process(bytearray)


def as_text(folder: Path) -> Entered:
    return in_process(bytes.decode)


DOORS = [lines, array, websocket, binary, standard_input, publish_command, as_bytes, as_text]
FILES = [tail, tail_into_history]  # of a file, the first bad line is told and all are counted


@pytest.mark.parametrize("door", [*DOORS, *FILES], ids=lambda door: door.__name__)
def test_every_way_in_makes_the_same_of_it(door: Callable[[Path], Entered], tmp_path: Path) -> None:
    entered = door(tmp_path)
    assert entered.ticks == WANTED
    assert [line.decode() for line in WANTED] == b"\n".join(entered.ticks).decode().splitlines()
    for _, words in BAD[:1] if door in FILES else BAD:
        assert re.search(words, entered.told), entered.told[-3000:]

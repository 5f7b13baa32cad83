"""What reading history costs: ``python -m tests.perf.history_read DIR``, with a history from ``history_make``.

In one run, on the same bytes: catching up over NDJSON with zstd; /range to a client that takes zstd, against nginx
with the same files; /range to a plain client, against ``zstd -dc``; and what the work would cost that nobody does:
decompress, parse, write JSON. CPU seconds are the server's whole process tree's, read from the operating system.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import zstandard

from tests.perf.gateway import gateway
from tests.support.gateway_process import free_port
from tick_gateway.bench.proc_stats import cpu_seconds
from tick_gateway.history.local.directory import segment_paths

RUN = "made"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def until_open(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.01)  # bounded; there is nothing to wait on but the port itself
    raise SystemExit(f"nothing listens on {port}")


@contextmanager
def nginx(folder: Path) -> Iterator[tuple[int, int]]:
    """nginx that serves a run's folder."""
    port = free_port()
    with tempfile.TemporaryDirectory() as tmp:
        os.chmod(tmp, 0o755)
        conf = Path(tmp) / "conf"
        conf.write_text(
            f"worker_processes 1; daemon off; user root; error_log {tmp}/err; pid {tmp}/pid;\n"
            "events { worker_connections 64; }\n"
            "http { access_log off; sendfile on; tcp_nopush on;\n"
            f" server {{ listen 127.0.0.1:{port}; root {folder}; }}\n"
            f" client_body_temp_path {tmp}/b; proxy_temp_path {tmp}/p; fastcgi_temp_path {tmp}/f;"
            f" uwsgi_temp_path {tmp}/u; scgi_temp_path {tmp}/s; }}\n"
        )
        process = subprocess.Popen(["taskset", "-c", "0", "nginx", "-c", str(conf)])
        try:
            until_open(port)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait()


def fetch(port: int, target: str, headers: str, enough: Callable[[bytes], bool] | None = None) -> int:
    """GET and read to the end, or until it is enough; returns the bytes that came."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n".encode())
        total = 0
        while data := sock.recv(1 << 20):
            total += len(data)
            if enough is not None and enough(data):
                break
        return total


def measure(pid: int, read: Callable[[], int]) -> tuple[float, int]:
    """CPU seconds of the server for a read, and the bytes that came."""
    before = cpu_seconds(pid)
    size = read()
    time.sleep(0.05)  # the system counts CPU in ticks of 10 ms
    return cpu_seconds(pid) - before, size


def dechunked(until: bytes) -> Callable[[bytes], bool]:
    """Whether a zstd stream in chunks has come to a text; the decoding is the client's, not the server's."""
    state = {"buffer": b"", "tail": b""}
    decoder = zstandard.ZstdDecompressor().decompressobj()
    started = False

    def enough(data: bytes) -> bool:
        nonlocal decoder, started
        buffer = state["buffer"] + data
        if not started:
            head, found, buffer = buffer.partition(b"\r\n\r\n")
            if not found:
                state["buffer"] = head
                return False
            started = True
        body = b""
        while True:
            line, found, rest = buffer.partition(b"\r\n")
            if not found or len(rest) < int(line, 16) + 2:
                break
            size = int(line, 16)
            body, buffer = body + rest[:size], rest[size + 2 :]
        state["buffer"] = buffer
        came = False
        while body:
            lines = state["tail"] + decoder.decompress(body)
            came = came or until in lines
            state["tail"] = lines[-len(until) :]
            body = decoder.unused_data if decoder.eof else b""
            if decoder.eof:
                decoder = zstandard.ZstdDecompressor().decompressobj()
        return came

    return enough


def last_t(paths: list[Path]) -> int:
    lines = subprocess.run(["zstd", "-dc", paths[-1]], capture_output=True, check=True).stdout
    return int(json.loads(lines.rstrip(b"\n").rpartition(b"\n")[2])["t"])


def user_and_system(command: str) -> float:
    """CPU seconds of a shell command."""
    before = os.times()
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def reencode(paths: list[Path], most: int) -> tuple[float, int]:
    """CPU seconds of decompressing, parsing and writing JSON, and the bytes of it."""
    before, size = time.process_time(), 0
    for path in paths:
        reader = zstandard.ZstdDecompressor()
        with path.open("rb") as file, reader.stream_reader(file, read_across_frames=True) as lines:
            rest = b""
            while size < most and (data := lines.read(1 << 20)):
                *whole, rest = (rest + data).split(b"\n")
                size += sum(len(orjson.dumps(orjson.loads(line))) + 1 for line in whole)
    return time.process_time() - before, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.sched_setaffinity(0, {1})
    paths = segment_paths(given.directory / RUN)
    tip = last_t(paths)
    one = paths[0]
    size = int(user_size(one))
    target = f"/range?run={RUN}&t0=0&t1={first_t(paths[1]) - 1}"
    rows: dict[str, list[float]] = {}
    began = time.monotonic()
    with (
        gateway("--data", str(given.directory), core=0) as (port, process),
        nginx(given.directory / RUN) as (other, other_pid),
    ):
        pid = process.pid
        print(f"started in {time.monotonic() - began:.2f} s, the interpreter's own time and nginx's included")
        for _ in range(given.rounds):
            seconds, _ = measure(
                pid,
                lambda: fetch(
                    port, f"/ndjson?from_t={RUN}:-1", "Accept-Encoding: zstd\r\n", dechunked(b'"t":%d,' % tip)
                ),
            )
            rows.setdefault("catch-up over NDJSON with zstd, GB of ticks a core-second", []).append(
                sum(user_size(path) for path in paths) / seconds / 1e9
            )
            coded, _ = measure(pid, lambda: repeat(port, target, "Accept-Encoding: zstd\r\n"))
            listed, _ = measure(pid, lambda: repeat(port, f"/segments/{RUN}/{one.name}", ""))
            served, _ = measure(other_pid, lambda: repeat(other, f"/{one.name}", ""))
            plain, _ = measure(pid, lambda: fetch(port, target, ""))
            unpacked = user_and_system(f"taskset -c 0 zstd -dc {one} | cat >/dev/null")
            alone = user_and_system(f"taskset -c 0 zstd -dc {one} >/dev/null")
            work, worked = reencode([one], size // 4)
            rows.setdefault("/range with zstd : nginx with the same file", []).append(coded / served)
            rows.setdefault("/segments : nginx with the same file", []).append(listed / served)
            rows.setdefault("/range plain : zstd -dc into a pipe", []).append(plain / unpacked)
            rows.setdefault("/range plain : zstd -dc to nowhere", []).append(plain / alone)
            rows.setdefault("decompress, parse, write JSON : /range with zstd", []).append(
                work / worked * size / (coded / REPEAT)
            )
    for name, values in rows.items():
        print(f"{statistics.median(values):8.2f}  {name}  ({', '.join(f'{value:.2f}' for value in values)})")


REPEAT = 20


def repeat(port: int, target: str, headers: str) -> int:
    return sum(fetch(port, target, headers) for _ in range(REPEAT))


def first_t(path: Path) -> int:
    return int(path.name.partition(".")[0])


def user_size(path: Path) -> int:
    """Bytes of a segment's lines."""
    zstd = shutil.which("zstd")
    assert zstd is not None, "zstd is not installed"
    pipe = subprocess.run(f"{zstd} -dc {path} | wc -c", shell=True, check=True, capture_output=True)
    return int(pipe.stdout)


if __name__ == "__main__":
    main()

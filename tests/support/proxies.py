"""nginx, HAProxy and Caddy in front of a gateway, configured exactly as docs/how-to/proxy.md says, addresses apart."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support import needs
from tests.support.gateway_process import Running, free_port
from tests.support.markdown import DOCS, Block, blocks

PAGE = DOCS / "how-to" / "proxy.md"

_NGINX = """\
daemon off; master_process off; pid {folder}/pid; error_log stderr notice;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {http}
}}
"""

Changes = Mapping[str, str]
"""What stands on the page once, and what stands in its place."""

AT_ONCE: Mapping[str, Changes] = {"haproxy": {"timeout connect 5s": "timeout connect 5s\n    retries 0"}}
"""By proxy: has it answer for a gateway that is away at once; HAProxy tries again first, for three seconds."""


def documented(containing: str, language: str = "nginx") -> Block:
    [block] = [block for block in blocks(PAGE, language) if containing in block.text]
    return block


def fill_in(text: str, changes: Changes) -> str:
    for what, value in changes.items():
        assert text.count(what), f"the page does not say {what}"
        text = text.replace(what, value)
    return text


def _nginx(folder: Path, gateway: int, port: int, changes: Changes) -> tuple[str, str, list[str]]:
    own = {"127.0.0.1:8000": f"127.0.0.1:{gateway}", "listen 80;": f"listen 127.0.0.1:{port};"}
    http = fill_in(documented("upstream tick_gateway").text, {**own, **changes})
    return "nginx.conf", _NGINX.format(folder=folder, http=http), ["nginx", "-p", str(folder), "-c"]


def _haproxy(folder: Path, gateway: int, port: int, changes: Changes) -> tuple[str, str, list[str]]:
    own = {"127.0.0.1:8000": f"127.0.0.1:{gateway}", "bind :80": f"bind 127.0.0.1:{port}"}
    text = fill_in(documented("frontend ", "haproxy").text, {**own, **changes})
    return "haproxy.cfg", text, ["haproxy", "-db", "-f"]


def _caddy(folder: Path, gateway: int, port: int, changes: Changes) -> tuple[str, str, list[str]]:
    own = {"127.0.0.1:8000": f"127.0.0.1:{gateway}", "ticks.example.org {": f"http://127.0.0.1:{port} {{"}
    text = fill_in(documented("handle_errors", "caddy").text, {**own, **changes})
    return "Caddyfile", "{\n\tadmin off\n}\n" + text, ["caddy", "run", "--adapter", "caddyfile", "--config"]


PROXIES: dict[str, Callable[[Path, int, int, Changes], tuple[str, str, list[str]]]] = {
    "nginx": _nginx,
    "haproxy": _haproxy,
    "caddy": _caddy,
}
"""For each: the name and the text of its file, and the command that takes it."""


@contextmanager
def proxy(name: str, folder: Path, gateway: int, changes: Changes | None = None) -> Iterator[str]:
    """Runs a proxy in front of the gateway at a port, and gives its address."""
    program = needs.program(name)
    for _ in range(10):  # none of them can ask the system for a free port; another may take it meanwhile
        port = free_port()
        file, text, command = PROXIES[name](folder, gateway, port, changes or {})
        (folder / file).write_text(text)
        home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        with Running([program, *command[1:], folder / file], env=home) as process:
            if _listens(port, process):
                try:
                    yield f"http://127.0.0.1:{port}"
                finally:
                    process.kill()  # asked to end, it would wait for streams that are open, some for their next bytes
                return
            assert "in use" in process.stderr.text + process.stdout.text, process.report()
    pytest.fail("no free port")


def _listens(port: int, process: Running) -> bool:
    while process.process.poll() is None:
        with closing(socket.socket()) as sock:
            if not sock.connect_ex(("127.0.0.1", port)):
                return True
        os.sched_yield()
    process.wait()
    return False

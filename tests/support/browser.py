"""Pages in a browser: what each one says on its console, as lines that a test waits for."""

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import TracebackType

from tests.support import needs
from tests.support.gateway_process import Lines, Running


@dataclass(frozen=True)
class Page:
    """A page of the gateway at `url` that runs `script` beside its own. `name` tells it from its neighbours."""

    name: str
    url: str
    script: str
    module: bool = False


class Browser(Running):
    """A browser with some pages. `said[name]` is what a page logged, `warned[name]` the rest of its console."""

    def __init__(self, pages: Sequence[Page], kind: str = "chromium") -> None:
        needs.node_packages()
        super().__init__([needs.node(), needs.JS / "browser.mjs", kind, needs.browser(kind)], stdin=True)
        self.said = {page.name: Lines() for page in pages}
        self.warned = {page.name: Lines() for page in pages}
        self._sorter = threading.Thread(target=self._sort, daemon=True)
        self._sorter.start()
        self.feed([json.dumps([asdict(page) for page in pages])])

    def _sort(self) -> None:
        """Hands each console message to its page; ends with the browser."""
        done = 0
        while more := self.stdout.more(done, timeout=threading.TIMEOUT_MAX):
            for line in more:
                message = json.loads(line)
                box = self.said if message["type"] == "log" else self.warned
                for text in message["lines"]:
                    box[message["page"]].add(text)
            done += len(more)
        for lines in (*self.said.values(), *self.warned.values()):
            lines.close()

    def report(self) -> str:
        warned = "\n".join(f"{name}: {line}" for name, lines in self.warned.items() for line in lines.lines[-10:])
        return f"--- consoles:\n{warned}\n--- stderr:\n{self.stderr.text[-4000:]}"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close_stdin()  # it closes the browser, and ends
        super().__exit__(kind, error, at)

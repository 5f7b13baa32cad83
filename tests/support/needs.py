"""What a test needs from outside Python: a program, a browser, a package of Node.

On a user's machine a test without its tool skips and says what to install. Where the environment has CI set, it fails:
there everything is to be installed, and a suite that skipped by itself would look like one that passed.
"""

import importlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

JS = Path(__file__).parents[1] / "js"

BROWSERS = {
    "chromium": (("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"), "chromium"),
    "firefox": (("firefox-esr", "firefox"), "firefox-esr"),
}
"""The names that each goes by, and Debian's package."""

OLDEST_NODE = 18
"""The first major version with fetch built in, which the examples and the peers use."""


def missing(what: str, install: str) -> NoReturn:
    """Ends the running test because `what` is not there; `install` says how to get it."""
    reason = f"{what} is missing: {install}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str, install: str | None = None) -> str:
    """Gives the path of the program `name`. Also looks where servers lie, which a user's PATH may leave out."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    return path or missing(name, install or f"apt-get install {name}, or your system's package of it")


def browser(kind: str) -> str:
    """Gives the path of one of `BROWSERS`."""
    names, package = BROWSERS[kind]
    for name in names:
        if path := shutil.which(name):
            return path
    missing(kind, f"apt-get install {package}, or your system's package of it")


def chromium() -> str:
    """Gives the path of Chromium, or of Chrome where that is what the machine has."""
    return browser("chromium")


def node() -> str:
    """Gives the path of a Node that is new enough."""
    path = program("node", f"install Node.js {OLDEST_NODE} or newer")
    version = _version(path)
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        missing(f"Node.js {OLDEST_NODE}", f"install it: {path} is {version}")
    return path


def node_release(major: int) -> str:
    """Gives the path of a release of Node that tests/js/nodes/package.json names."""
    path = JS / "nodes" / "node_modules" / f"node-{major}" / "bin" / "node"
    if not path.is_file():
        missing(f"Node.js {major} in tests/js/nodes", "make js, or npm ci in that folder, on Linux and x86-64")
    return str(path)


def node_packages() -> Path:
    """Gives the node_modules folder with the packages that tests/js/package.json names."""
    folder = JS / "node_modules"
    if not all(
        (folder / name).is_dir() for name in ("ws", "puppeteer-core", "got")
    ):  # an older installation lacks some
        missing("node_modules in tests/js", "make js, or npm ci in that folder")
    return folder


def go_program(source: Path, folder: Path) -> str:
    """Builds a program of one file in Go, unless it lies in `folder` already, and gives its path."""
    go = program("go", "apt-get install golang-go, or your system's package of it")
    built = folder / source.stem
    env = os.environ | {"GO111MODULE": "off", "GOFLAGS": "", "GOCACHE": str(folder / "cache"), "GOPATH": str(folder)}
    if not built.exists():
        subprocess.run([go, "build", "-o", built, source], env=env, check=True, timeout=300)
    return str(built)


def java_program(source: Path, folder: Path) -> list[str]:
    """Builds a class in Java, unless it lies in `folder` already, and gives the command that runs it."""
    java, javac = (program(name, "apt-get install default-jdk-headless, or another JDK") for name in ("java", "javac"))
    if not (folder / f"{source.stem}.class").exists():
        subprocess.run([javac, "-d", folder, source], check=True, timeout=300)
    return [java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", str(folder), source.stem]


def module(name: str) -> ModuleType:
    """Imports the Python module `name`, which the package's test extra installs."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise  # it is there, and broken
    missing(f"the Python package {name}", "pip install '.[test]'")


@cache
def _version(path: str) -> str:
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout.strip()

"""The names of runs' directories: valid on every system, and distinct for different runs.

    RUN        nearly always
        ~RUN~      names that Windows does not allow: devices (NUL, com1.x), and names that end with a dot
        RUN~2      if the file system takes RUN for another run's directory with different case: a and A

Runs' names contain no ``~``, and do not begin with a dot, as the history's own files do.

``directory_of`` waits for the disk; it is not called on the event loop. The rest is pure.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from ...model.tick import RUN_ID

_ESCAPE: Final = "~"
_DEVICES: Final = re.compile(r"(?:con|prn|aux|nul|conin|conout|com\d|lpt\d)(?:\..*)?|.*\.", re.IGNORECASE)


def run_of(name: str) -> str | None:
    """The run whose directory has this name; None: it is not a name of a run's directory."""
    run = name.removeprefix(_ESCAPE).partition(_ESCAPE)[0]
    return run if RUN_ID.fullmatch(run) else None


def directory_of(directory: Path, run: str) -> Path:
    """The directory of a run in a directory of history, existing or to be created.

    Raises:
        OSError: the directory cannot be read.
    """
    try:
        names = set(os.listdir(directory))
    except FileNotFoundError:
        names = set()
    number = 1
    while True:
        path = directory / _name(run, number)
        if path.name in names or not os.path.lexists(path):
            return path
        number += 1  # it exists with another name: that of a run that differs in case


def _name(run: str, number: int) -> str:
    ending = f"{_ESCAPE}{number}" if number > 1 else ""
    return f"{_ESCAPE}{run}{ending or _ESCAPE}" if _DEVICES.fullmatch(run) else f"{run}{ending}"

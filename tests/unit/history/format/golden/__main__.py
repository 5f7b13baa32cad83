"""Writes the golden files anew."""

import tempfile
from pathlib import Path

from tests.unit.history.format.golden import FOLDER, make

with tempfile.TemporaryDirectory() as scratch:
    for name, data in make(Path(scratch)).items():
        (FOLDER / name).write_bytes(data)

"""What tests of what is known of blocks share."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest


@pytest.fixture
def small_pages() -> Iterator[None]:
    """Pages of three blocks, of which two stay in memory."""
    with patch("tick_gateway.history.block_index._PAGE", 3), patch("tick_gateway.history.block_index._PAGES", 2):
        yield

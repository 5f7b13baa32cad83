"""The Python reader and publisher that the command line uses.

    async for item in read("http://host:8000", start="RUN:812"):
        if isinstance(item, Tick): ...

They speak the wire contract over plain aiohttp, and import nothing of the server.
"""

from .errors import Failure
from .publisher import Publisher
from .reader import Notice, Tick, read, read_batches
from .window import PublishSummary

__all__ = ["Failure", "Notice", "PublishSummary", "Publisher", "Tick", "read", "read_batches"]

"""tick-gateway: every tick of a running simulation, to everyone, over whichever protocol their network allows.

    from tick_gateway import Gateway

    with Gateway(port=8000) as gateway:
        for t in range(1000):
            gateway.publish({"t": t, "agents": [...]})

The packages, along the way of a tick. A package imports only from those above it in this list:

    model        the contract's values, pure: tick, position, view, query parameters, notices
    wire         bytes in, bytes out, pure: framings, codings, what clients and publishers send
    bus          published to from any thread; the ring; records become JSON
    history      every tick ever published, on disk: segments of its own, or another program's files
    reading      from a position on, wherever the ticks lie
    access       who may, and how much
    delivery     bytes made once for everybody, written to every reader
    http         what the gateway needs around aiohttp
    transports   the registry of transports: one file each
    sources      where ticks come from: one file each
    server       routes, one-shot reads, what the gateway says of itself
    client       the Python reader and publisher, on model and wire alone
    bench        the transports against each other
    cli          the commands
"""

from .bus.tick_bus import TickBus
from .errors import GatewayError
from .gateway import Gateway
from .model.tick import Position, PublishedTick
from .settings import Settings
from .version import __version__

__all__ = ["Gateway", "GatewayError", "Position", "PublishedTick", "Settings", "TickBus", "__version__"]

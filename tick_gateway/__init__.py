"""tick-gateway: every tick of a running simulation, to everyone, over whichever protocol their network allows.

    from tick_gateway import Gateway

    with Gateway(port=8000) as gateway:
        for t in range(1000):
            gateway.publish({"t": t, "agents": [...]})

The rooms, in the direction in which a tick goes:

    record, tick        a record becomes checked bytes
    bus, ring           runs and what memory holds; published to from any thread
    feed                read after a position, wherever it lies
    fanout, crowd, group, session, variant, view, wire
                        bytes made once for everybody, written to every reader
    transports, server  routes; the one place where all of it is wired
    sources, client, cli
                        where ticks come from, and the command line
    bench               the transports against each other
"""

__version__ = "0.1.0"

from .bus import TickBus
from .errors import GatewayError
from .gateway import Gateway
from .settings import Settings
from .tick import Position, Tick

__all__ = ["Gateway", "GatewayError", "Position", "Settings", "Tick", "TickBus", "__version__"]

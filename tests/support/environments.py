"""Environments that others set up for a gateway."""

from __future__ import annotations

KUBERNETES = {
    "TICK_GATEWAY_SERVICE_HOST": "10.96.14.2",
    "TICK_GATEWAY_SERVICE_PORT": "8000",
    "TICK_GATEWAY_SERVICE_PORT_HTTP": "8000",
    "TICK_GATEWAY_PORT": "tcp://10.96.14.2:8000",
    "TICK_GATEWAY_PORT_8000_TCP": "tcp://10.96.14.2:8000",
    "TICK_GATEWAY_PORT_8000_TCP_PROTO": "tcp",
    "TICK_GATEWAY_PORT_8000_TCP_PORT": "8000",
    "TICK_GATEWAY_PORT_8000_TCP_ADDR": "10.96.14.2",
    "TICK_GATEWAY_PORT_9090_UDP": "udp://10.96.14.2:9090",
}
"""What Kubernetes sets for every container where a service is called tick-gateway."""

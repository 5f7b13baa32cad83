"""The server: routes, one-shot reads, status and descriptions of the gateway."""

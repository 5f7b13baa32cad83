"""The server: the one place where bus, fan-out, transports and sources are wired to routes."""

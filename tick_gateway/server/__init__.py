"""The server: routes, and what the gateway says of itself."""

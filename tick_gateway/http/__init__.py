"""What the gateway needs around aiohttp: listening, connections, negotiation, answers, and the hand-over."""

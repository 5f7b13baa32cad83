"""Everything around aiohttp: listening, connections, content negotiation, answers, and connection hand-over."""

"""Bytes in, bytes out: framings, content codings, and what publishers and WebSocket clients send.

Pure: no I/O, no clock, no asyncio. Callers pass bytes as they arrive, in pieces of any size.
"""

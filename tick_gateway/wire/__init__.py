"""Bytes in, bytes out: framings, content codings, and what publishers and WebSocket clients send.

Pure: no I/O, no clock, no asyncio. Callers hand over bytes as they come, in pieces of any size.
"""

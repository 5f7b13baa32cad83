"""The contract's values: ticks, positions, views, query parameters, notices.

Pure: no I/O, no clock, no asyncio. Whatever a client or a publisher can get wrong in one of them is said here.
"""

"""The contract's values: ticks, positions, views, query parameters, notices.

Pure: no I/O, no clock, no asyncio. Errors about their content, from clients and publishers alike, are raised here.
"""

"""The format of history files: blocks, footers, journal. Pure: no I/O, no clock. Golden files pin it byte by byte."""

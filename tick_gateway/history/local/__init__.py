"""Segments on disk: the history of one directory, written by a thread of its own and read by others."""

"""Delivery: bytes made once for everybody, and written to every reader."""

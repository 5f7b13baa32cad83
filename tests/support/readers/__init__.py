"""A reader of every transport, as the conformance suite reads it: strict, with what all of them can do in ``base``."""

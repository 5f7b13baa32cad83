"""Bad input of every kind at one gateway process, with a reader connected all along that loses nothing by it.

Each piece of it is answered: by a 4xx, a notice, an error message or a close code. After each test the gateway serves,
the reader has every good tick, and at the end standard error holds the lines of the start alone.
"""

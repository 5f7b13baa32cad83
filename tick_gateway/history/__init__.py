"""History: every tick ever published, in files that ordinary tools read, and the way back from them.

    format      the bytes of a segment, pure
    local       segments on disk: written, recovered, read, verified, repaired
    external    files that another program writes: followed, and read where they lie

Beside these stands what both have in common: which blocks of a run there are (``run_history``, ``block_index``), and
how the loop gets at what is in them (``archive``, ``threads``).
"""

"""History: every tick ever published, in files that ordinary tools read, and the way back from them.

    format      the bytes of a segment, pure
    local       segments on disk: written, recovered, read, verified, repaired
    external    files that another program writes: followed, read where they lie, and imported into segments

Beside these stands what both have in common, which knows of neither: what is known of a stored run (``stored_run``,
``block_index``), how the bus begins with it (``restoring``) and readers find it (``run_history``), and how the loop
gets at what is in its blocks (``archive``, ``threads``).
"""

"""Who may, and how much: publishers and file descriptors."""

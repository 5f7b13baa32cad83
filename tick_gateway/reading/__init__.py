"""Reading from a position on, in memory or in history: where a reader begins, and what comes next."""

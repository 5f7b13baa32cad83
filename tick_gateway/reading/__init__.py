"""Reading: from a position on, in memory or in history: where a reader begins, what comes next, what it is told."""

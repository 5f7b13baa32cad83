"""Reading: from a position on, in memory or in history. Every decision about a reader's cursor is made here."""

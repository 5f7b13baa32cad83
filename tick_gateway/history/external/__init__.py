"""Files that another program writes: followed while they grow, split into runs, read where they lie."""

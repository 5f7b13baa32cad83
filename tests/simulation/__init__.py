"""Bus, fan-out and sessions on a loop that is turned by hand, and witnesses who know everything that was published."""

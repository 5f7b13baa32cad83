"""Sources: where ticks come from. Each publishes to the runtime's bus and knows nothing of who reads."""

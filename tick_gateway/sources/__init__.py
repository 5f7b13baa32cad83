"""Sources: where ticks come from. Each gets the hub's bus to publish to and knows nothing of who reads."""

"""The bus: records become ticks, published from any thread; the ring holds the newest ones."""

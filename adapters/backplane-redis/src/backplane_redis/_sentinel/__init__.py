"""Which node is the master, as most sentinels say."""

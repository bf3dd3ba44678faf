"""What links of a `FaultyTransport` are made of."""

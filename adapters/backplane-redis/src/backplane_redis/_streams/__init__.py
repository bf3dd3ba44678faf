"""Streams as logs: what `StreamsTransport` is made of."""

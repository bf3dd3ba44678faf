"""JetStream's streams as logs: what `JetStreamTransport` is made of."""

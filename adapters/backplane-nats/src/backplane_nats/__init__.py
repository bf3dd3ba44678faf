"""NATS transport for Backplane."""

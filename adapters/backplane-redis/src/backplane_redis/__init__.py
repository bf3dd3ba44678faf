"""Redis and Valkey transport for Backplane."""

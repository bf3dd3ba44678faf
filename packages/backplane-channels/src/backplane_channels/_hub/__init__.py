"""The consumers of one event loop."""

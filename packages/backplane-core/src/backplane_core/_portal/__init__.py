"""The loop of code that has none."""

"""The life of one link after another."""

"""From a publish to the link."""

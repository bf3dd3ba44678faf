"""The sides of a backplane."""

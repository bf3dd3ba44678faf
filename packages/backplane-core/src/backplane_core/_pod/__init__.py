"""The halves of a backplane."""

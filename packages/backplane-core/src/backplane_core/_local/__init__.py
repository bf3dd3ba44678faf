"""This pod's own connections."""

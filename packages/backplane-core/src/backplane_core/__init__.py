"""Publish an event to every socket of a user, whichever replica holds it."""

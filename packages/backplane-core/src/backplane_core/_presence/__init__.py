"""Presence, here and on other pods."""

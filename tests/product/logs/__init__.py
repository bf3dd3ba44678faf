"""Fleets over a log: nothing is lost but what the log lost, and that is reported."""

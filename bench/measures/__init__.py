"""A module for each measurement: what is measured, what it comes to, and what its processes do.

Processes that need much code have it in `bench.workers`.
"""

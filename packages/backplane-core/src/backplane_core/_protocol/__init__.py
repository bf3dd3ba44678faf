"""What pods say to each other.

Nothing here does I/O or holds a task: bytes and clock readings go in, answers come out.
"""

"""What pods say to each other; no I/O at all."""

"""Who is present: what this pod says of its own connections, and what it heard of the others'."""

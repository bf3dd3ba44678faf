"""One link to all nodes of a cluster."""

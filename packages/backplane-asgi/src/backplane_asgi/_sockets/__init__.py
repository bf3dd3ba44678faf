"""From a pod's events to very many sockets: one frame per event, bounded, in stream order."""

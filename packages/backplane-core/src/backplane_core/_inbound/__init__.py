"""From the link to this pod's sinks."""

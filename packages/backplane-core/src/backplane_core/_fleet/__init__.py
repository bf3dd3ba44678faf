"""What the pods of a fleet ask each other."""

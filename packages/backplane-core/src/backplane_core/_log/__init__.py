"""What a client missed that comes back."""

"""What each command does; its arguments and flags are in `_cli`."""

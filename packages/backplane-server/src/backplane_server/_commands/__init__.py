"""What each command does; how people ask for it stands in `_cli`."""

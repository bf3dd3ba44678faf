"""The command line: commands, arguments, flags, help. What a command does is in `_commands`, imported when needed."""

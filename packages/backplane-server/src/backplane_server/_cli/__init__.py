"""How people ask: commands, arguments, flags, help. What is done stands in `_commands`, imported when it is needed."""

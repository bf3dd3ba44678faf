"""asyncio, the process, clocks and the host's callbacks."""

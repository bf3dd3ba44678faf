"""For transports over asyncio: from a socket's callback to core in one turn of the loop, without a task between."""

from backplane_core._waking import Answer
from backplane_core.sockets._inbox import Inbox, Source
from backplane_core.sockets._tap import Tap

__all__ = ["Answer", "Inbox", "Source", "Tap"]

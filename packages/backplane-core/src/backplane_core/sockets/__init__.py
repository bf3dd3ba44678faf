"""For transports over asyncio: from a socket's callback to core in one turn of the loop, without a task between."""

from backplane_core._runtime.waking import Confirmation
from backplane_core.sockets.inbox import Inbox, Source
from backplane_core.sockets.tap import Tap

__all__ = ["Confirmation", "Inbox", "Source", "Tap"]

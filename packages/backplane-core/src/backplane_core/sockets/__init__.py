"""From a transport's socket to core.

In the turn of the loop in which the bytes came, without a task in between.
"""

from backplane_core.sockets.confirmation import Confirmation
from backplane_core.sockets.inbox import Inbox, Source
from backplane_core.sockets.tap import Tap

__all__ = ["Confirmation", "Inbox", "Source", "Tap"]

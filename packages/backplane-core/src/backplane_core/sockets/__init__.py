"""From a name to a socket, and to core.

For transports over an asyncio client library, in the turn of the loop in which the bytes came, without a task.
"""

from backplane_core.sockets.address_map import AddressMap
from backplane_core.sockets.blocking import off_loop
from backplane_core.sockets.confirmation import Confirmation
from backplane_core.sockets.dialer import Dialer
from backplane_core.sockets.frame_packer import FramePacker
from backplane_core.sockets.inbox import Inbox, Source
from backplane_core.sockets.slow_call import SlowCall
from backplane_core.sockets.strangers import first_answer, tls_hello
from backplane_core.sockets.tap import Tap

__all__ = [
    "AddressMap",
    "Confirmation",
    "Dialer",
    "FramePacker",
    "Inbox",
    "SlowCall",
    "Source",
    "Tap",
    "first_answer",
    "off_loop",
    "tls_hello",
]

"""What tests of a service, and of a transport, need: a broker in memory."""

from backplane_core.testing._memory import MemoryBroker, MemoryTransport

__all__ = ["MemoryBroker", "MemoryTransport"]

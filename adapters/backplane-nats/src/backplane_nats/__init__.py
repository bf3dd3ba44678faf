"""NATS transport for Backplane."""

from backplane_nats.backplane import NatsBackplane
from backplane_nats.transport import NatsTransport

__all__ = ["NatsBackplane", "NatsTransport"]

"""Publish an event to every socket of a user, whichever replica holds it."""

from backplane_core.backplane import Attachment, Backplane, Sink
from backplane_core.base import BaseBackplane
from backplane_core.connect import Connecting, connect, connect_from_env
from backplane_core.connection import Connection, Overflow
from backplane_core.distributed import DistributedBackplane
from backplane_core.envelope import BackplaneEnvelope, decode_envelope, encode_envelope
from backplane_core.errors import (
    AdapterNotInstalledError,
    AuthenticationError,
    BackplaneError,
    ClosedError,
    ConfigurationError,
    EnvelopeError,
    EventEncodeError,
    EventTooLargeError,
    GapError,
    InvalidTargetError,
    OutboxFullError,
    ReentrantPublishError,
    SlowConsumerError,
    TransportError,
    WrongLoopError,
)
from backplane_core.event import Event
from backplane_core.logging_observer import LoggingObserver
from backplane_core.memory import InMemoryBackplane
from backplane_core.observe import (
    EnvelopeRejected,
    EventDropped,
    FleetMismatch,
    Gap,
    GapCause,
    LinkChanged,
    Observer,
    OriginCollision,
    Readiness,
    Record,
    SinkFailed,
    State,
    StateChanged,
    Stats,
)
from backplane_core.options import Options, OutboxOverflow
from backplane_core.publisher import Publisher, SyncPublisher
from backplane_core.target import Target
from backplane_core.transport import (
    DoubtingLink,
    Frame,
    LeavingLink,
    Link,
    Lost,
    MultiStreamLink,
    Traits,
    Transport,
)

__all__ = [
    "AdapterNotInstalledError",
    "Attachment",
    "AuthenticationError",
    "Backplane",
    "BackplaneEnvelope",
    "BackplaneError",
    "BaseBackplane",
    "ClosedError",
    "ConfigurationError",
    "Connecting",
    "Connection",
    "DistributedBackplane",
    "DoubtingLink",
    "EnvelopeError",
    "EnvelopeRejected",
    "Event",
    "EventDropped",
    "EventEncodeError",
    "EventTooLargeError",
    "FleetMismatch",
    "Frame",
    "Gap",
    "GapCause",
    "GapError",
    "InMemoryBackplane",
    "InvalidTargetError",
    "LeavingLink",
    "Link",
    "LinkChanged",
    "LoggingObserver",
    "Lost",
    "MultiStreamLink",
    "Observer",
    "Options",
    "OriginCollision",
    "OutboxFullError",
    "OutboxOverflow",
    "Overflow",
    "Publisher",
    "Readiness",
    "Record",
    "ReentrantPublishError",
    "Sink",
    "SinkFailed",
    "SlowConsumerError",
    "State",
    "StateChanged",
    "Stats",
    "SyncPublisher",
    "Target",
    "Traits",
    "Transport",
    "TransportError",
    "WrongLoopError",
    "connect",
    "connect_from_env",
    "decode_envelope",
    "encode_envelope",
]

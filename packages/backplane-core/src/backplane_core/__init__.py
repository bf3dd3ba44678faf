"""Publish an event to every socket of a user, whichever replica holds it."""

from typing import TYPE_CHECKING

from backplane_core.answers import Answers, MissingPod
from backplane_core.backplane import Attachment, Backplane, CloseCallback, Sink
from backplane_core.base import BaseBackplane
from backplane_core.connect import Connecting, connect, connect_from_env
from backplane_core.connection import Conflate, Connection, Overflow
from backplane_core.distributed import DistributedBackplane
from backplane_core.envelope import BackplaneEnvelope, decode_envelope, encode_envelope
from backplane_core.errors import (
    AdapterNotInstalledError,
    AuthenticationError,
    BackplaneError,
    ClosedByFleetError,
    ClosedError,
    ConfigurationError,
    EnvelopeError,
    EventEncodeError,
    EventTooLargeError,
    GapError,
    InvalidTargetError,
    OutboxFullError,
    ReentrantPublishError,
    RefusedError,
    SlowConsumerError,
    TargetDeniedError,
    TransportError,
    WrongLoopError,
)
from backplane_core.event import CaughtUp, Event
from backplane_core.event_sink import EventAttachment, EventSink, Replay, ResumingEventSink
from backplane_core.fleet import ConnectionInfo, Fleet, PodInfo, Receipt
from backplane_core.history import History
from backplane_core.inspection import Access, BrokerReport, InspectableTransport
from backplane_core.jobs import Job, Worker
from backplane_core.logging_observer import LoggingObserver
from backplane_core.memory import InMemoryBackplane
from backplane_core.observe import (
    EnvelopeRejected,
    EventDropped,
    EventTraced,
    FleetMismatch,
    Gap,
    GapCallback,
    GapCause,
    JobDead,
    JobsLost,
    LinkChanged,
    Observer,
    OriginCollision,
    Readiness,
    Record,
    SinkFailed,
    State,
    StateChanged,
    Stats,
    SubscriptionRefused,
)
from backplane_core.options import ConnectOptions, Options, OutboxOverflow, RoutingName
from backplane_core.presence import (
    Presence,
    PresenceChange,
    PresenceJoined,
    PresenceLeft,
    PresenceSnapshot,
)
from backplane_core.publisher import Publisher
from backplane_core.queues import Delivery, QueueLink, is_queue
from backplane_core.retention import Retention
from backplane_core.sync_connection import SyncConnection
from backplane_core.sync_fleet import SyncFleet
from backplane_core.sync_publisher import SyncPublisher
from backplane_core.target import Excluded, Intersection, Target, Targets
from backplane_core.transport import (
    DurableLink,
    Frame,
    LeavingLink,
    Link,
    Lost,
    Proven,
    ProvingLink,
    Refusal,
    Traits,
    Transport,
)

__all__ = [
    "Access",
    "AdapterNotInstalledError",
    "Answers",
    "Attachment",
    "AuthenticationError",
    "Backplane",
    "BackplaneEnvelope",
    "BackplaneError",
    "BaseBackplane",
    "BrokerReport",
    "CaughtUp",
    "CloseCallback",
    "ClosedByFleetError",
    "ClosedError",
    "ConfigurationError",
    "Conflate",
    "ConnectOptions",
    "Connecting",
    "Connection",
    "ConnectionInfo",
    "Delivery",
    "DistributedBackplane",
    "DurableLink",
    "EnvelopeError",
    "EnvelopeRejected",
    "Event",
    "EventAttachment",
    "EventDropped",
    "EventEncodeError",
    "EventSink",
    "EventTooLargeError",
    "EventTraced",
    "Excluded",
    "Fleet",
    "FleetMismatch",
    "Frame",
    "Gap",
    "GapCallback",
    "GapCause",
    "GapError",
    "History",
    "InMemoryBackplane",
    "InspectableTransport",
    "Intersection",
    "InvalidTargetError",
    "Job",
    "JobDead",
    "JobsLost",
    "LeavingLink",
    "Link",
    "LinkChanged",
    "LoggingObserver",
    "Lost",
    "MissingPod",
    "Observer",
    "Options",
    "OriginCollision",
    "OutboxFullError",
    "OutboxOverflow",
    "Overflow",
    "PodInfo",
    "Presence",
    "PresenceChange",
    "PresenceJoined",
    "PresenceLeft",
    "PresenceSnapshot",
    "Proven",
    "ProvingLink",
    "Publisher",
    "QueueLink",
    "Readiness",
    "Receipt",
    "Record",
    "ReentrantPublishError",
    "Refusal",
    "RefusedError",
    "Replay",
    "ResumingEventSink",
    "Retention",
    "RoutingName",
    "Sink",
    "SinkFailed",
    "SlowConsumerError",
    "State",
    "StateChanged",
    "Stats",
    "SubscriptionRefused",
    "SyncConnection",
    "SyncFleet",
    "SyncPublisher",
    "Target",
    "TargetDeniedError",
    "Targets",
    "Traits",
    "Transport",
    "TransportError",
    "Worker",
    "WrongLoopError",
    "connect",
    "connect_from_env",
    "decode_envelope",
    "encode_envelope",
    "is_queue",
]

__version__: str
"""The version of the installed distribution."""

if not TYPE_CHECKING:  # a checker would take every name for one of this package

    def __getattr__(name: str) -> str:
        # Read when it is asked for: an import would pay for it each time.
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415

            return version("backplane-core")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Every error that Backplane raises. Catch `BackplaneError` to catch all of them.

No message, repr or `__cause__` of these contains a password, token, key or event payload.
"""

from __future__ import annotations

from backplane_core.observe import Gap

__all__ = [
    "AdapterNotInstalledError",
    "AuthenticationError",
    "BackplaneError",
    "ClosedError",
    "ConfigurationError",
    "EnvelopeError",
    "EventEncodeError",
    "EventTooLargeError",
    "GapError",
    "InvalidTargetError",
    "OutboxFullError",
    "ReentrantPublishError",
    "SlowConsumerError",
    "TransportError",
    "WrongLoopError",
]


class BackplaneError(Exception):
    """The base class of all errors of this library."""


class ConfigurationError(BackplaneError, ValueError):
    """A setting is wrong. The message names it and what is allowed; nothing was opened."""


class AdapterNotInstalledError(ConfigurationError):
    """No installed distribution serves the URL's scheme. The message says what to `pip install`."""


class InvalidTargetError(BackplaneError, ValueError):
    """A target or connection id does not have the allowed form. Nothing was delivered."""


class EventEncodeError(BackplaneError, TypeError):
    """An event contains something that JSON cannot represent. Nothing was delivered."""


class EventTooLargeError(BackplaneError, ValueError):
    """An event is larger than the limit. Nothing was delivered and the link stays up.

    Args:
        size: Size of the event or its frame, in bytes.
        limit: The limit, in bytes: `max_event_bytes`, or what the broker accepts in one message.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"the event takes {self.size} bytes, the limit is {self.limit}: send a reference to the data, "
            "or raise max_event_bytes (and the broker's own limit)"
        )


class OutboxFullError(BackplaneError):
    """The outbox is full and its policy is "raise". Nobody received anything: publish again later.

    Args:
        messages: Frames that wait for the broker.
        size: Size of these frames, in bytes.
    """

    def __init__(self, messages: int, size: int) -> None:
        super().__init__(messages, size)
        self.messages = messages
        self.size = size

    def __str__(self) -> str:
        return (
            f"the outbox is full, {self.messages} events of {self.size} bytes wait for the broker: publish again "
            "later, or raise outbox_max_messages and outbox_max_bytes"
        )


class EnvelopeError(BackplaneError, ValueError):
    """Bytes from the bus are not an envelope, or its event has no Python value (a number too large for a double)."""


class ClosedError(BackplaneError):
    """The backplane is draining or closed. Nothing was delivered."""


class WrongLoopError(BackplaneError, RuntimeError):
    """A backplane was used outside the event loop that it was opened in. Nothing was done."""


class ReentrantPublishError(BackplaneError):
    """A sink tried to publish while an event was being delivered. Hand it to `loop.call_soon` instead."""


class SlowConsumerError(BackplaneError):
    """This connection's queue overflowed and its policy is "close". Everything queued before has been yielded."""


class GapError(BackplaneError):
    """This connection ends at a gap, because `end_on_gap` is set. Everything before the gap has been yielded.

    Args:
        gap: What was missed: the client should reconnect and reload (WebSocket close code 1012).
    """

    def __init__(self, gap: Gap) -> None:
        super().__init__(gap)
        self.gap = gap

    def __str__(self) -> str:
        return f"events may be missing ({self.gap.cause}): {self.gap.reason}; close the socket, let the client resync"


class TransportError(BackplaneError):
    """The broker can't be reached, or a link to it died.

    Args:
        message: What happened, without secrets.
        retryable: Whether trying again can help. A wrong certificate stays wrong; a refused connection may not stay so.
    """

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


class AuthenticationError(TransportError):
    """The broker rejected the credentials. Not retried at startup; retried patiently when it happens later."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message, retryable=retryable)

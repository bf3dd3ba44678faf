"""Every error that Backplane raises. Catch `BackplaneError` to catch all of them.

No message, repr or `__cause__` of these contains a password, token, key or event payload.
"""

from __future__ import annotations

from collections.abc import Sequence

from backplane_core.observe import Gap
from backplane_core.transport import Refusal

__all__ = [
    "AdapterNotInstalledError",
    "AuthenticationError",
    "BackplaneError",
    "ClosedByFleetError",
    "ClosedError",
    "ConfigurationError",
    "EnvelopeError",
    "EventEncodeError",
    "EventTooLargeError",
    "GapError",
    "InvalidTargetError",
    "OutboxFullError",
    "ReentrantPublishError",
    "RefusedError",
    "SlowConsumerError",
    "TargetDeniedError",
    "TransportError",
    "WrongLoopError",
]


class BackplaneError(Exception):
    """The base class of all errors of this library. Catch it to catch all of them."""


class ConfigurationError(BackplaneError, ValueError):
    """A setting is wrong: an option, a URL, a variable of the environment, or what a transport declares.

    Raised where it is given, before anything is opened or changed. Correct what the message names; it says what is
    allowed.
    """


class AdapterNotInstalledError(ConfigurationError):
    """No installed distribution serves the URL's scheme.

    Raised by `connect`, `connect_from_env` and the publishers, before anything is opened. Install the adapter that the
    message names, or correct the scheme.
    """


class InvalidTargetError(BackplaneError, ValueError):
    """A target or a connection's id does not have the allowed form.

    Raised by `Target`, by whatever takes an id, and by whatever takes targets. Nothing was delivered or changed. Check
    ids where they come from, such as a request: not empty, at most 1,024 bytes of UTF-8.
    """


class EventEncodeError(BackplaneError, TypeError):
    """An event contains something that JSON cannot represent, or its trace is no mapping.

    Raised by `publish` and its variants. Nothing was delivered. Convert the event first, for example with a model's
    `model_dump(mode="json")`, or encode it yourself and use `publish_json`. The message names the place and the type of
    what is in the way, as in `a value of type Decimal at event["items"][3]["price"]`, and never a value; nor a key that
    does not look like the name of a field.
    """


class EventTooLargeError(BackplaneError, ValueError):
    """An event is larger than the limit.

    Raised by `publish` and its variants. Nothing was delivered, and the link stays up. Publish a reference to the data
    instead, or raise the limit: `max_event_bytes` in the whole fleet, or the broker's own.

    Args:
        size: Size of the event or its frame, in bytes.
        limit: The limit, in bytes: `max_event_bytes`, or what the broker accepts in one message.
        is_brokers: Whether it is the broker's limit, which `max_event_bytes` can't raise.
    """

    def __init__(self, size: int, limit: int, is_brokers: bool = False) -> None:  # noqa: FBT001, FBT002 -- as it is pickled
        super().__init__(size, limit, is_brokers)
        self.size: int = size
        self.limit: int = limit
        self.is_brokers: bool = is_brokers

    def __str__(self) -> str:
        what = "send a reference to the data, or raise"
        if self.is_brokers:
            return (
                f"the event takes {self.size} bytes on the bus, and the broker accepts {self.limit} in a message: "
                f"{what} the broker's limit"
            )
        return (
            f"the event takes {self.size} bytes, the limit is {self.limit}: {what} max_event_bytes in the whole fleet"
        )


class OutboxFullError(BackplaneError):
    """The outbox is full, and `outbox_overflow` is "raise".

    Raised by `publish` and its variants, as a rule while the broker is away. Nobody received anything. Publish the
    event again later, or give it up; a larger outbox (`outbox_max_messages`, `outbox_max_bytes`) outlasts a longer
    outage.

    Args:
        messages: Frames that wait for the broker.
        size: Size of these frames, in bytes.
    """

    def __init__(self, messages: int, size: int) -> None:
        super().__init__(messages, size)
        self.messages: int = messages
        self.size: int = size

    def __str__(self) -> str:
        return (
            f"the outbox is full, {self.messages} events of {self.size} bytes wait for the broker: publish again "
            "later, or raise outbox_max_messages and outbox_max_bytes"
        )


class EnvelopeError(BackplaneError, ValueError):
    """Bytes are not an envelope, or an event's JSON has no Python value (a number too large for a double).

    Raised by `decode_envelope`, by `BackplaneEnvelope` and by `Event.value`. Leave the message out, and look for what
    wrote it: pods reject such messages from the bus and count them, without raising.
    """


class ClosedError(BackplaneError):
    """The backplane, or the connection, is not open: it is draining or closed, or was never entered.

    Raised by whatever needs it open. Nothing was delivered or changed. If the process shuts down, stop; otherwise
    create a new one, since none opens twice. In a forked child the parent's backplanes are closed: open one after the
    fork.
    """


class WrongLoopError(BackplaneError, RuntimeError):
    """A backplane was used outside the event loop that it was opened in.

    Raised by every method that touches it. Nothing was done. Call `publish_threadsafe` from other threads, and open one
    backplane per event loop.
    """


class ReentrantPublishError(BackplaneError):
    """A sink tried to publish while an event was being delivered to it.

    Raised by `publish` and its variants. Nothing was delivered. Let the sink hand the call to `loop.call_soon`.
    """


class SlowConsumerError(BackplaneError):
    """This connection's queue overflowed, and its `overflow` is "close".

    Raised by the iteration, after everything that was queued before. Close the socket, and let the client reconnect and
    reload. If clients are only slow for moments, raise `max_pending` and `max_pending_bytes`.
    """


class GapError(BackplaneError):
    """This connection ends at a gap, because `end_on_gap` is set.

    Raised by the iteration, after everything that came before the gap. Close the socket (WebSocket close code 1012),
    and let the client reconnect and reload.

    Args:
        gap: What may have been missed.
    """

    def __init__(self, gap: Gap) -> None:
        super().__init__(gap)
        self.gap: Gap = gap

    def __str__(self) -> str:
        return f"events may be missing ({self.gap.cause}): {self.gap.reason}; close the socket, let the client resync"


class ClosedByFleetError(BackplaneError):
    """This connection was closed by an order to the fleet: `fleet.close`.

    Raised by the iteration, after everything that was queued before. Close the socket with this code and this reason.

    Args:
        code: A WebSocket close code: 1000, or 3000 to 4999.
        reason: For people, at most 123 bytes of UTF-8.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code: int = code
        self.reason: str = reason

    def __str__(self) -> str:
        return (
            f"the fleet was ordered to close this connection, with code {self.code}: {self.reason or 'no reason given'}"
        )


class TransportError(BackplaneError):
    """The broker can't be reached, or a link to it died.

    Raised by opening a backplane, if it did not connect within `connect_timeout_s`, and by transports. Check that the
    broker runs where the URL says. A backplane that is open never raises it: it reconnects, and reports a `Gap`.

    Args:
        message: What happened, without secrets.
        retryable: Whether trying again can help. A wrong certificate stays wrong; a refused connection may not stay so.
    """

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable: bool = retryable


class AuthenticationError(TransportError):
    """The broker rejected the credentials.

    Raised by opening a backplane, at the first attempt. Check user, password or token in the URL or in
    `connection_kwargs`. A backplane that is open goes on trying, with growing waits, and reports it as its state's
    reason.

    Args:
        message: What happened, without secrets.
        retryable: Whether trying again can help.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message, retryable=retryable)


class RefusedError(TransportError):
    """The broker refused some of what one call of a link asked for.

    Raised by the links of transports, and handled by core: a refused event is counted and reported, a refused channel
    is a `TargetDeniedError` for those who wait for it. Everything else that the call asked for was done.

    Args:
        refusals: What was refused, in the order of the call's frames or channels; at least one.
        ends_link: The link died of the last refusal: the broker took the others before it, and nothing behind it.
    """

    def __init__(self, refusals: Sequence[Refusal], *, ends_link: bool = False) -> None:
        super().__init__(refusals[0].reason)
        self.refusals: Sequence[Refusal] = tuple(refusals)
        self.ends_link: bool = ends_link


class TargetDeniedError(BackplaneError):
    """The broker does not let this pod hear a target: its user lacks the permission for the target's channel.

    Raised by `associate`, `attach` and entering a connection. Nothing was changed, and no other target is affected.
    Grant what the message names.

    Args:
        channel: The target's channel.
        reason: The broker's, and what to grant.
    """

    def __init__(self, channel: str, reason: str) -> None:
        super().__init__(channel, reason)
        self.channel: str = channel
        self.reason: str = reason

    def __str__(self) -> str:
        return f"this pod may not hear the target: {self.reason}"

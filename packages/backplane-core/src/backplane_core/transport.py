"""What a host implements to bring a broker of its own: `Transport` opens `Link`s, a link moves bytes.

A transport holds no registry, no origin, no envelope and no back-off: `DistributedBackplane` does all of that for
every transport alike. Turn off the client library's own reconnecting, retrying and buffering: it hides gaps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from attrs import field, frozen
from attrs.validators import ge, optional

__all__ = [
    "DoubtingLink",
    "Frame",
    "LeavingLink",
    "Link",
    "Lost",
    "MultiStreamLink",
    "Traits",
    "Transport",
]

Frame: TypeAlias = tuple[str, bytes] | tuple[str, bytes, str]
"""`(channel, payload)`, or `(channel, payload, cursor)` on a durable transport. A plain tuple: one per event."""


@frozen
class Lost:
    """A link's word that frames of a channel were lost although the link lives.

    Args:
        channel: The channel, or None for all that this link is subscribed to.
        reason: Why, for people.
        missed: How many frames; None where unknown.
    """

    channel: str | None
    reason: str
    missed: int | None = None


@frozen(kw_only=True)
class Traits:
    """What a transport can do. Read after each `Transport.open`, so that a broker's own limits can be filled in.

    Args:
        durable: Frames survive in a log and carry cursors.
        confirms: `Link.send` returns only when the broker has the frames. Unconfirmed ones are sent again on the
            next link.
        single_stream: The broker's confirmations come in the one ordered stream in which it delivers, and `receive`
            yields what came before one by the time that `send` returns, or in its next list. So a confirmed send proves
            how far this link has heard all, and gaps begin there; else they begin at the last beat that was heard, or
            where a `MultiStreamLink` says.
        max_payload_bytes: The broker's limit for one payload; None where it has none.
    """

    durable: bool = False
    confirms: bool = True
    single_stream: bool = False
    max_payload_bytes: int | None = field(default=None, validator=optional(ge(1)))


@runtime_checkable
class Link(Protocol):
    """One live broker connection. It raises `TransportError` when it dies, and core replaces it; it never heals itself.

    Core iterates `receive()` in one task from before the first `subscribe` until the link is given up, and calls
    `subscribe`, `unsubscribe` and `send` from other tasks meanwhile. So confirmations may be read in `receive()`, and
    a link needs no task of its own. Any of the five may be cancelled; `aclose` is called once, last, and bounded by a
    deadline.
    """

    async def subscribe(self, channels: Sequence[str], *, after: str | None = None) -> None:
        """Return once the broker confirmed that all of these are heard; frames published from then on arrive.

        Args:
            channels: At most 512 names of `[A-Za-z0-9_@=-]` separated by `:`; none is subscribed already.
            after: On a durable transport the cursor to resume behind.

        Raises:
            TransportError: The link is dead, or the broker refused.
        """
        ...

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Return once the broker confirmed that none of these is heard any longer.

        Args:
            channels: Names that were subscribed to, at most 512.

        Raises:
            TransportError: The link is dead.
        """
        ...

    async def send(self, frames: Sequence[Frame]) -> None:
        """Write all frames, in order, in one go; return once the broker confirmed them (see `Traits.confirms`).

        Called by one task, one call at a time. When it raises or is cancelled, any prefix may have arrived.

        Args:
            frames: Each a channel and a payload of at most `Traits.max_payload_bytes`; together about 512 KiB at most,
                unless one is larger.

        Raises:
            TransportError: The link is dead, or the broker refused a frame.
        """
        ...

    def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what arrived, in the broker's order, one list per read from the socket; raise when the link dies.

        While its consumer is busy it must not pile up frames without bound: stop reading, or drop and yield `Lost`.
        Ending without an error counts as a dead link.

        Raises:
            TransportError: The link is dead.
        """
        ...

    async def aclose(self) -> None:
        """Close the socket and leave nothing behind. Never raises because the link is already dead."""
        ...


@runtime_checkable
class DoubtingLink(Link, Protocol):
    """A link to one node of several: its acknowledgements speak only for that node, not for its peers.

    So no answer and no beat proves more than the link is sure of, and a gap begins there at the latest. When the link
    dies, a beat on each channel that it sent to since then shows other pods what was lost on its way, and numbers
    missing across the change of links are reported as a hole.
    """

    @property
    def sure_until(self) -> float | None:
        """The time up to which the node is known to be the one every pod used, fully in sync with its peers.

        In seconds of `time.monotonic()`. What it confirmed by then had reached its peers, and what they accepted by
        then had reached it. Never decreases. None: nothing is in doubt. Read after each send, and when the link is
        dead.
        """
        ...

    @property
    def in_vain(self) -> bool:
        """Whether what was sent since then may have reached nobody else: the node was deposed, and still accepted it.

        The sender then counts these events as `dropped["doubted"]`: a pod that never heard of it detects no hole.
        False if nearly all arrived, as when a node dies. Read once, when the link is dead.
        """
        ...


@runtime_checkable
class LeavingLink(Link, Protocol):
    """A link that hears beforehand that its broker will close it. Optional: core then moves, and nothing is missed.

    On a move core opens the next link, subscribes it to the same, reads both for a moment, and only then closes this
    one. So after its word the link works on as before, until it is closed from either side.
    """

    async def leaving(self) -> str:
        """Return why, for people, once the broker said that it will close this link; never otherwise.

        Called by one task, which may be cancelled; called again after the word, it returns at once.
        """
        ...


@runtime_checkable
class MultiStreamLink(Link, Protocol):
    """A link whose channels come over several connections, to the nodes of a cluster: one says nothing of another.

    A beat that is heard, or a send that is confirmed, proves its own stream and no other. So this link says itself
    until when it has heard all. `send` is called each `beat_s` while frames come in, and each `probe_interval_s` at
    least: the time to have every node answer, so that a frozen one holds up a confirmation.
    """

    @property
    def heard_until(self) -> float:
        """All that the broker had for this link until this moment of `time.monotonic()` was yielded before, and taken.

        It may only grow, and is read when `receive` has yielded: what is in that list does not count yet. A span in
        which frames of any channel went past this link is not passed until its `Lost` was yielded.
        """
        ...


@runtime_checkable
class Transport(Protocol):
    """Opens links to one broker. Constructing it checks its settings (`ConfigurationError`) and opens nothing."""

    @property
    def traits(self) -> Traits:
        """What this transport can do; may change with each `open`."""
        ...

    async def open(self) -> Link:
        """Make one attempt to connect and authenticate; core bounds it in time and repeats it.

        Raises:
            TransportError: The broker can't be reached; `retryable` says whether trying again can help.
            AuthenticationError: The broker refused the credentials.

        Cancellation: leaves no socket and no task behind.
        """
        ...

"""What a host implements to bring a broker of its own: `Transport` opens `Link`s, a link moves bytes.

A transport holds no registry, no origin, no envelope and no back-off: `DistributedBackplane` does all of that for
every transport alike. Turn off the client library's own reconnecting, retrying and buffering: it hides gaps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from attrs import field, frozen
from attrs.validators import ge, in_, optional

__all__ = [
    "DurableLink",
    "Frame",
    "LeavingLink",
    "Link",
    "Lost",
    "Proven",
    "ProvingLink",
    "Refusal",
    "Traits",
    "Transport",
]

Frame: TypeAlias = tuple[str, bytes] | tuple[str, bytes, str]
"""`(channel, payload)`, or `(channel, payload, cursor)` on a durable transport. A plain tuple: one per event.

A cursor is opaque text of at most 64 characters `[A-Za-z0-9:/_-]`: the place of this entry in the log of its channel.
No two entries of a log have the same, and every link yields an entry with the same one."""


@frozen
class Lost:
    """A link's word that frames of a channel were lost although the link lives.

    Args:
        channel: The channel, or None for all that this link is subscribed to.
        reason: Why, for people.
        missed: How many frames; None where unknown.
        cause: `sequence`: as above. The others are for a `DurableLink`. `trimmed`: the log dropped entries that this
            link had not yielded yet. `epoch`: the log went back, or is another one; it may lack entries that it had
            confirmed. Their senders send those again that they still have, so this alone is no gap: core finds by the
            senders' numbers what is missing.
    """

    channel: str | None
    reason: str
    missed: int | None = None
    cause: Literal["sequence", "trimmed", "epoch"] = field(
        default="sequence", validator=in_(("sequence", "trimmed", "epoch"))
    )


@frozen(kw_only=True)
class Refusal:
    """One frame or channel that the broker refused; see `RefusedError`.

    Args:
        index: Its place among the frames or channels of the call.
        reason: Why, for people: what was asked for, what the broker said, what to do. Without payload or secret.
        is_denied: Whether a permission for the channel is missing, so that others on it are refused as well.
    """

    index: int
    reason: str
    is_denied: bool = False


@frozen(kw_only=True)
class Traits:
    """What a transport can do. Read after each `Transport.open`, and while a link lives: some limits are stated late.

    Args:
        durable: Each channel is a log that outlives links: frames carry cursors, and the next link resumes where the
            last one ended. Its links are `DurableLink`s. Never with `announces_leave`, which has nothing to save there.
        confirms: `Link.send` returns only when the broker has the frames. Unconfirmed ones are sent again on the
            next link.
        single_stream: The broker's confirmations come in the one ordered stream in which it delivers, and `receive`
            yields what came before one by the time that `send` returns, or in its next list. So a confirmed send proves
            how far this link has heard all, and gaps begin there; else they begin at the last beat that was heard, or
            where a `ProvingLink` says.
        max_payload_bytes: The broker's limit for one payload; None where it has none.
        nodes: `several` if a link's node may be replaced, or has peers that it may be cut off from: its links are then
            `ProvingLink`s. `one` if all pods use the same one, always.
        announces_leave: The broker announces that it will close a link: its links are then `LeavingLink`s.
        queues: The broker keeps jobs as well, each for one worker: its links are then `QueueLink`s. Only with
            `durable`.
    """

    durable: bool = False
    confirms: bool = True
    single_stream: bool = False
    max_payload_bytes: int | None = field(default=None, validator=optional(ge(1)))
    nodes: Literal["one", "several"] = field(default="one", validator=in_(("one", "several")))
    announces_leave: bool = False
    queues: bool = False


@frozen(kw_only=True)
class Proven:
    """How far a link to one of several nodes has proven what it received and what it sent.

    Moments are of `time.monotonic()`, in seconds, and only ever grow from one answer of a link to its next.

    Args:
        received_until: All that the broker had for this link until then was yielded before, and taken. A span in which
            frames of any channel went past this link is not over until its `Lost` was yielded. None: the link is one
            stream, so core's own beats prove it, and its sends where `Traits.single_stream` says so; then None always.
        replicated_until: Until then this link's node was certainly the one that every pod uses, and in step with its
            peers: what it confirmed by then had reached them, and what they took had reached it. None: nothing is in
            doubt.
        deposed: Whether what was sent after `replicated_until` may have reached nobody, because the node was replaced
            and went on confirming. False where nearly all of it arrives, as when a node dies.
    """

    received_until: float | None
    replicated_until: float | None
    deposed: bool = False


@runtime_checkable
class Link(Protocol):
    """One live broker connection. It raises `TransportError` when it dies, and core replaces it; it never heals itself.

    Core iterates `receive()` in one task from before the first `subscribe` until the link is given up, and calls
    `subscribe`, `unsubscribe` and `send` from other tasks meanwhile. So confirmations may be read in `receive()`, and
    a link needs no task of its own. Any of the five may be cancelled; `aclose` is called once, last, and bounded by a
    deadline.
    """

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Return once the broker confirmed that all of these are heard; frames published from then on arrive.

        Args:
            channels: At most 512 names of `[A-Za-z0-9_@=-]` separated by `:`, each at most 300 characters; none is
                subscribed already.

        Raises:
            TransportError: The link is dead.
            RefusedError: The link lives; the broker refused some, and confirmed all others.
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
            TransportError: The link is dead.
            RefusedError: The broker refused some frames, and took all others; it says whether the link lives.
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


class ProvingLink(Link, Protocol):
    """A link to one of several nodes, whose confirmations speak only for that node, not for its peers.

    Required by `Traits(nodes="several")`. Neither a confirmation nor a beat proves more than this link has proven, and
    a gap begins there at the latest. When the link dies, a beat on each channel that it sent to since then shows the
    others what was lost on the way.
    """

    def proven(self) -> Proven:
        """Return how far this link has proven what it received and sent.

        Called once the link is open; for each list that `receive` yields, which does not count yet; after each `send`;
        and once the link is dead. `send` is called each `beat_s` while frames come in, and each `probe_interval_s` at
        least: the time to have every node answer, so that a frozen one holds up a confirmation.
        """
        ...


class LeavingLink(Link, Protocol):
    """A link that learns beforehand that its broker will close it. Required by `Traits(announces_leave=True)`.

    Core then moves: it opens the next link, subscribes it to the same channels, reads both for a moment, and only then
    closes this one, so that nothing is missed. After its announcement the link works on as before, until it is closed
    from either side.
    """

    async def leaving(self) -> str:
        """Return why, for people, once the broker announced that it will close this link; never otherwise.

        Called by one task, which may be cancelled; called again after the announcement, it returns at once.
        """
        ...


class DurableLink(Link, Protocol):
    """A link to logs: each channel is one, and the frames that it yields carry cursors. For `Traits(durable=True)`.

    Core calls `resume` in place of `subscribe`. It keeps the cursor of the last frame that it has delivered on each
    channel, and hands it to the next link. A frame may come more than once: core drops copies by number.
    """

    async def resume(self, channels: Sequence[str], after: Mapping[str, str]) -> Mapping[str, str]:
        """Return once these channels are read, each behind its cursor; a channel without one begins at its log's end.

        If a log no longer has what follows on the cursor, its `Lost` is yielded before its frames. Where the log went
        back (`epoch`), reading begins so that all that was added since is yielded.

        Args:
            channels: As in `subscribe`.
            after: The cursors, by channel; those of an earlier link, or of this one's last `resume`.

        Returns:
            Where reading begins: a cursor for each channel. It is a place in the log, not a word for its end: frames
            that are added from now on are behind it, whatever becomes of this link.

        Raises:
            TransportError: The link is dead, or a log can't be read; says what to do.
        """
        ...

    def confirmed(self) -> Mapping[str, str]:
        """Return the cursor of the last entry that the broker confirmed on each channel; also once the link is dead."""
        ...

    async def find_forgotten(self, cursors: Mapping[str, str]) -> Collection[str]:
        """Return the channels whose logs no longer have the entry of this cursor.

        A log forgets from its end: if it has an entry, it has all that were confirmed before. An entry that was trimmed
        may be returned as well: then frames are sent again in vain, and dropped as copies.

        Args:
            cursors: By channel; what `confirmed` of an earlier link returned.

        Raises:
            TransportError: The link is dead.
        """
        ...

    async def read(
        self, channel: str, limit: int, *, after: str | None = None, before: str | None = None
    ) -> Sequence[Frame | Lost]:
        """Return a page of a log: at most `limit` of its entries, in order; wait for none that is yet to be added.

        With `after` these are the ones that follow on that entry, otherwise the last ones before `before`, or of all.
        Core calls it for clients that resume, and for history; several calls may run at once, besides `receive`.

        Args:
            channel: Any, whether this link reads it or not.
            limit: Entries, at least 1.
            after: A cursor, perhaps made up by somebody.
            before: A cursor, perhaps made up by somebody; not together with `after`.

        Returns:
            Frames with cursors. There may be fewer than `limit` where they are large; none at all only if there are
            none. If entries behind `after` are gone, `Lost` with `cause="trimmed"` comes first; if the log never had
            the entry of a cursor, or went back behind it, one `Lost` with `cause="epoch"` is all.

        Raises:
            TransportError: The link is dead, or the log can't be read.
        """
        ...


@runtime_checkable
class Transport(Protocol):
    """Opens links to one broker. Constructing it checks its settings (`ConfigurationError`) and opens nothing.

    Its `repr` stands in that of the backplane, so it names the broker without a password, token or key.
    """

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


def find_disagreement(traits: Traits, link: Link) -> str | None:
    """Return how a transport's declaration and its link's methods differ, and what to do about it; None: they agree.

    Args:
        traits: Read after `Transport.open`.
        link: What that returned.
    """
    for name, declared, trait, kind in (
        ("proven", traits.nodes == "several", "nodes='several'", "ProvingLink"),
        ("leaving", traits.announces_leave, "announces_leave=True", "LeavingLink"),
        ("resume", traits.durable, "durable=True", "DurableLink"),
        ("open_queue", traits.queues, "queues=True", "QueueLink"),
    ):
        if callable(getattr(link, name, None)) is declared:
            continue
        if declared:
            return f"the transport's traits say {trait}, and its link has no method {name}(): see {kind}"
        return f"the transport's link has a method {name}(), and its traits do not say {trait}: declare it"
    return None

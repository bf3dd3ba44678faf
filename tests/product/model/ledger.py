"""What happened in a run, as seen from outside of the pods: every publish, frame, link, connection, delivery and gap.

`at` is the virtual clock in seconds. `order` numbers everything in the order in which it happened.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from attrs import define, field, frozen
from backplane_core import Attachment, Frame, Gap, Intersection, Target
from backplane_core.target import targets_in

__all__ = [
    "BUSY_S",
    "NEVER",
    "QUEUES",
    "Arrival",
    "Batch",
    "Heard",
    "Hold",
    "Ledger",
    "Life",
    "LinkLog",
    "Parsed",
    "PodLog",
    "Published",
    "Told",
    "Turn",
]

NEVER: Final = float("inf")
QUEUES: Final = frozenset({"close", "drop_oldest", "drop_newest"})
"""Kinds of connections that are read from a queue, by what a full one does."""
BUSY_S: Final = {"slow": 0.02, "dragging": 0.1}
"""How long a sink, and a callback for gaps, holds the loop, by the kind of connection."""

_FRAME: Final = re.compile(
    rb'\{"origin":"([^"]*)","target":.*?,"event":(?:null|(\d+)|\[(\d+),"x+"\])(?:,"seq":(\d+))?(?:,"prev":(\d+))?',
    re.DOTALL,
)
_SIGNED: Final = b"backplane-signed-1 "


@frozen
class Parsed:
    """What a frame says: read with a pattern of the model's own, not with the code under test."""

    origin: str
    event: int | None
    is_big: bool
    seq: int | None
    prev: int | None

    @classmethod
    def of(cls, payload: bytes) -> Parsed:
        """Return what a payload says, signed or not."""
        plain = payload.partition(b"\n")[2] if payload.startswith(_SIGNED) else payload
        match = _FRAME.match(plain)
        assert match is not None, f"no frame of this model: {payload!r}"
        origin, event, big, seq, prev = match.groups()
        return cls(
            origin.decode(),
            None if (number := event or big) is None else int(number),
            big is not None,
            None if seq is None else int(seq),
            None if prev is None else int(prev),
        )


@define(eq=False)
class Published:
    """One event; its number is its JSON value. `seq` is the number that its frame takes, whether it is sent or not."""

    number: int
    pod: PodLog | None
    targets: tuple[Target | Intersection, ...]
    channel: str
    seq: int | None
    excluded: frozenset[str]
    at: float
    order: int
    arrivals: list[Arrival] = field(factory=list["Arrival"])
    confirmed: bool = False
    refused: bool = False
    # Targets whose connections must not get it.
    barred: tuple[Target | Intersection, ...] = ()


@define(eq=False)
class Arrival:
    """One copy of a frame at the broker, and the links that took it."""

    channel: str
    parsed: Parsed
    at: float
    order: int
    links: list[LinkLog] = field(factory=list["LinkLog"])


@define(eq=False)
class Batch:
    """What a link yielded at once, a lost frame as its channel's name. Done: when its pod came back for more."""

    at: float
    order: int
    items: Sequence[Arrival | str]
    done: float = NEVER


@frozen
class Turn:
    """A channel that was left, or is heard again, at that point of what a link yielded."""

    channel: str
    at: float
    left: bool


@define(eq=False)
class LinkLog:
    """One link: when its pod went live on it, when it fell deaf, when it ended, what was read when."""

    pod: PodLog
    opened: float
    live_at: float = NEVER
    deaf_at: float = NEVER
    ended: float = NEVER
    batches: list[Batch | Turn] = field(factory=list["Batch | Turn"])
    read: dict[Arrival, Batch] = field(factory=dict["Arrival", "Batch"])


@define(eq=False)
class PodLog:
    """One life of a pod: one backplane, one origin."""

    index: int
    origin: str
    wall_offsets: list[float]
    is_small: bool = False
    links: list[LinkLog] = field(factory=list[LinkLog])
    gaps: list[Told] = field(factory=list["Told"])
    records: list[Any] = field(factory=list[Any])
    states: list[str] = field(factory=list[str])
    confirmed_frames: int = 0
    # When its line got another longest delay, and which.
    delays: list[tuple[float, float]] = field(factory=list[tuple[float, float]])
    # Whether it came up in time; else its host never used it.
    started: bool = False
    restarted: bool = False
    stats: Any = None
    replay: Any = None


@define(eq=False)
class Hold:
    """A connection's association with a target.

    Args:
        target: The target.
        since: `order` at which it began here.
        promised: `order` from which on the pod has to get all that the target gets; None: not promised yet.
        ended: `order` of its end.
        confirmed: Whether the promise was made at once, so that what is missed later is a hole with a place; else a
            gap for the span until then follows, behind what may come meanwhile.
        pending: Whether it was taken over from a sink whose association with the target still waits: that promises it.
    """

    target: Target
    since: int
    promised: float = NEVER
    ended: float = NEVER
    confirmed: bool = True
    pending: bool = False


@frozen(eq=False)
class Heard:
    """An event at a connection."""

    number: int
    at: float
    order: int


@frozen(eq=False)
class Told:
    """A gap at a connection, or at a pod."""

    gap: Gap
    at: float
    order: int


@define(eq=False)
class Life:
    """One sink or queue from its attachment to its end: what its owner was handed, in order.

    A queue is read on after its end, until it is empty.
    """

    conn_id: str
    pod: PodLog
    kind: str
    since: int
    stream: list[Heard | Told] = field(factory=list["Heard | Told"])
    holds: list[Hold] = field(factory=list[Hold])
    ended: float = NEVER
    too_slow: bool = False
    # Its pod closed under it; until the last link is gone, what arrives is still delivered.
    closed: bool = False
    attachment: Attachment | None = None
    reader: asyncio.Task[Any] | None = None

    @property
    def queue(self) -> bool:
        return self.kind in QUEUES

    @property
    def gaps(self) -> list[Told]:
        return [item for item in self.stream if isinstance(item, Told)]

    @property
    def heard(self) -> list[Heard]:
        return [item for item in self.stream if isinstance(item, Heard)]

    def hold(self, target: Target) -> Hold | None:
        """The hold of a target that lasts."""
        for hold in self.holds:
            if hold.target == target and hold.ended == NEVER:
                return hold
        return None

    def has(self, whom: Target | Intersection) -> bool:
        """Whether it has a target, or all of an intersection, now."""
        return all(self.hold(target) is not None for target in targets_in(whom))

    def holds_of(self, whom: Sequence[Target | Intersection]) -> Iterator[Hold]:
        """Each time in which it had one of these; of an intersection, in which it had all of its targets."""
        for one in whom:
            each = [[hold for hold in self.holds if hold.target == target] for target in targets_in(one)]
            for holds in itertools.product(*each):
                yield Hold(
                    holds[0].target,
                    max([hold.since for hold in holds]),
                    max([hold.promised for hold in holds]),
                    min([hold.ended for hold in holds]),
                    all(hold.confirmed for hold in holds),
                )

    def end(self, order: int) -> None:
        if self.ended == NEVER:
            self.ended = order
            for hold in self.holds:
                hold.ended = min(hold.ended, order)


@define
class Ledger:
    """All of one run."""

    events: list[Published] = field(factory=list[Published])
    arrivals: list[Arrival] = field(factory=list[Arrival])
    pods: list[PodLog] = field(factory=list[PodLog])
    lives: list[Life] = field(factory=list[Life])
    violations: list[str] = field(factory=list[str])
    # `order` at which the run begins to close: who is still there has been there to the end.
    closing: float = NEVER
    # Frames by identity: the broker of a run hands out each copy as a tuple of its own.
    by_frame: dict[int, Arrival] = field(factory=dict[int, Arrival])
    frames: list[Frame] = field(factory=list[Frame])
    # From when to when sinks and callbacks held the loop.
    holds: list[tuple[float, float]] = field(factory=list[tuple[float, float]])

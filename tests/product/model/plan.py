"""What one run does: a plan of the fleet and its script of steps, plain to read and to cut."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from attrs import field, frozen
from backplane_core import Target

__all__ = ["CONNECT_TIMEOUT_S", "KEYS", "SMALL_BYTES", "SOCKETS", "TARGETS", "Overflow", "Plan", "Step"]

Overflow: TypeAlias = Literal["drop_newest", "drop_oldest", "raise"]

CONNECT_TIMEOUT_S: Final = 2.0
SOCKETS: Final = 5
TARGETS: Final = (Target.user("u1"), Target.user("u2"), Target("room", "r1"), Target.org("o1"), Target.everyone())
KEYS: Final = [b"one key of this fleet: 32 bytes."]
SMALL_BYTES: Final = 1_000
"""The largest event that a pod of small limits takes."""


@frozen
class Step:
    """One thing that happens.

    Args:
        wait_s: How long after the step before.
        do: The name of a step: a method of `Publishing`, `Sockets` or `Troubles`.
        args: Its arguments.
    """

    wait_s: float
    do: str
    args: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"Step({self.wait_s!r}, {self.do!r}, {self.args!r})"


@frozen(kw_only=True)
class Plan:
    """One run.

    Args:
        seed: Of the chance that pods and transports draw from while it runs.
        pods: How many.
        routing: Of all of them.
        lanes: Likewise.
        outbox: Frames that a pod's outbox takes.
        outbox_bytes: Bytes that it takes; the smallest that is allowed is a few frames.
        overflow: What a full outbox does.
        beat_s: Of all pods.
        probe_s: Likewise.
        ttl_s: Likewise: after which silence a pod is forgotten.
        single_stream: Whether confirmations come in the stream in which the broker delivers, and prove what was read.
        copies: Whether the bus may bring a frame twice in a row, which no broker of ours does.
        signed: Whether the fleet signs.
        skew_s: In a fleet that signs, how far each pod's clock is ahead of that of the pod before it.
        batch: Channels in one call of a link's `subscribe`, at most.
        few: Connections that are notified of a hole at once; others are walked to, or notified before their next event.
        small: The pod that takes small events alone; None: all take all.
        memory: Numbers of other pods' frames that a pod remembers; None: plenty.
        alarm: Whether the pods' observers publish when events are dropped.
        quiet: Nothing in it loses anything, so nobody must hear of a loss, and no link must be given up.
        steps: The script.
    """

    seed: int
    pods: int = 2
    routing: Literal["broadcast", "interest"] = "broadcast"
    lanes: int = 1
    outbox: int = 10_000
    outbox_bytes: int = 1_000_000
    overflow: Overflow = "drop_newest"
    beat_s: float = 0.5
    probe_s: float = 2.0
    ttl_s: float = 300.0
    copies: bool = False
    single_stream: bool = False
    signed: bool = False
    skew_s: float = 0.0
    batch: int = 512
    few: int = 8
    small: int | None = None
    memory: int | None = None
    alarm: bool = False
    quiet: bool = False

    @property
    def refuses_all(self) -> bool:
        """Whether each pod refuses what the others send, as their clocks are too far apart, until that is mended."""
        return abs(self.skew_s) > self.ttl_s

    steps: tuple[Step, ...] = field(default=(), repr=False)

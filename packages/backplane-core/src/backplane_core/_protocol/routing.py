"""How targets map to channels: `broadcast` and `interest`.

The shared channel has the name that the host chose, `[A-Za-z0-9_-]+` words joined by `:`. Every other name begins with
it and contains an `@`, which no chosen name can: `{channel}:@3` is a lane, `{channel}:@user:u1` a target. So backplanes
on different channels never meet.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Literal, Protocol, TypeAlias
from zlib import crc32

from backplane_core.target import Intersection, Target, targets_in

__all__ = ["CHANNEL", "Broadcast", "Interest", "Routing", "RoutingName", "make_routing"]

RoutingName: TypeAlias = Literal["broadcast", "interest"]

CHANNEL: Final = re.compile(r"[A-Za-z0-9_-]+(?::[A-Za-z0-9_-]+)*", re.ASCII)

# Ids that can stand in a channel name as they are: no broker has a wildcard, separator or protocol byte among these.
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_MAX_CACHED_NAMES: Final = 65_536


class Routing(Protocol):
    """Maps targets to channels."""

    @property
    def name(self) -> RoutingName:
        """The name in settings and beats."""
        ...

    @property
    def shared(self) -> str:
        """The channel that all pods subscribe to: beats, unions, everyone."""
        ...

    @property
    def lanes(self) -> int:
        """How many channels every pod subscribes to besides the shared one; 1 means only the shared one."""
        ...

    @property
    def base(self) -> Sequence[str]:
        """The channels that every pod subscribes to."""
        ...

    def channel(self, targets: Sequence[Target | Intersection]) -> str:
        """Return the channel that a publish to these targets goes to: an intersection to that of its first target."""
        ...

    def interest(self, target: Target) -> str | None:
        """Return the channel that a pod must subscribe to because it holds the target; None if a base channel does."""
        ...


class Broadcast:
    """Every pod receives everything, and drops what it holds no connection for."""

    name: RoutingName = "broadcast"

    def __init__(self, shared: str, lanes: int) -> None:
        self.shared = shared
        self.lanes = lanes
        self.base = (shared, *[f"{shared}:@{lane}" for lane in range(lanes)]) if lanes > 1 else (shared,)

    def channel(self, targets: Sequence[Target | Intersection]) -> str:
        """Return the lane of a target, always the same one, so that its events keep their order."""
        first = targets_in(targets[0])[0]
        if self.lanes == 1 or len(targets) > 1 or first.kind == "everyone":
            return self.shared
        return self.base[1 + crc32(first.wire) % self.lanes]

    def interest(self, target: Target) -> str | None:  # noqa: ARG002 -- every pod receives everything
        """Return None: the base channels carry everything."""
        return None


class Interest:
    """Each target has a channel, to which only the pods that hold it subscribe."""

    name: RoutingName = "interest"
    lanes = 1

    def __init__(self, shared: str) -> None:
        self.shared = shared
        self.base = (shared,)
        # By the target's wire form, whose hash is kept. One goes for each that comes: to forget all at once takes long.
        self._names: OrderedDict[bytes, str] = OrderedDict()

    def channel(self, targets: Sequence[Target | Intersection]) -> str:
        """Return the channel of one target; a union has none of its own, so it uses the shared one.

        Each pod that holds a connection with all targets of an intersection hears the channel of the first of them.
        """
        return self.shared if len(targets) > 1 else self.interest(targets_in(targets[0])[0]) or self.shared

    def interest(self, target: Target) -> str | None:
        """Return the channel of the target: `{channel}:@{kind}:{token}`."""
        name = self._names.get(target.wire)
        if name is None:
            if target.kind == "everyone":
                return None
            name = f"{self.shared}:@{target.kind}:{id_token(target.id)}"
            if len(self._names) >= _MAX_CACHED_NAMES:
                self._names.popitem(last=False)
            self._names[target.wire] = name
        return name


def id_token(id_: str) -> str:
    """Return an id as a word of a channel name: itself if plain, otherwise `=` and 32 hex digits of its SHA-256.

    No plain id starts with `=`, so the two never collide, and 128 bits make an accidental collision unthinkable.
    """
    if _PLAIN_ID.fullmatch(id_):
        return id_
    return f"={hashlib.sha256(id_.encode()).hexdigest()[:32]}"


def make_routing(name: RoutingName, channel: str, lanes: int) -> Routing:
    """Return the routing of that name; the arguments come from checked settings."""
    return Interest(channel) if name == "interest" else Broadcast(channel, lanes)

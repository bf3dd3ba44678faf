"""How targets map to channels: `broadcast` and `interest`.

Names of channels: the shared one is the host's, `[A-Za-z0-9_-]+` words joined by `:`. Every other one is below it and
holds an `@`, which no host's channel can: `{channel}:@3` is a lane, `{channel}:@user:u1` a target. So two backplanes on
different channels never meet.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final, Literal, Protocol, TypeAlias
from zlib import crc32

from backplane_core.target import Target

__all__ = ["CHANNEL", "Broadcast", "Interest", "Routing", "RoutingName", "make_routing"]

RoutingName: TypeAlias = Literal["broadcast", "interest"]

CHANNEL: Final = re.compile(r"[A-Za-z0-9_-]+(?::[A-Za-z0-9_-]+)*", re.ASCII)

# Ids that may stand in a channel's name as they are: no wildcard, separator or protocol byte of any broker among them.
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_MAX_CACHED_NAMES: Final = 65_536


class Routing(Protocol):
    """Maps targets to channels."""

    @property
    def name(self) -> RoutingName:
        """As it stands in settings and beats."""
        ...

    @property
    def shared(self) -> str:
        """The channel that all pods hear: beats, unions, everyone."""
        ...

    @property
    def lanes(self) -> int:
        """How many channels every pod hears beside the shared one; 1 means the shared one alone."""
        ...

    @property
    def base(self) -> Sequence[str]:
        """The channels that every pod hears."""
        ...

    def channel(self, targets: Sequence[Target]) -> str:
        """Return the channel that a publish to these targets goes to."""
        ...

    def interest(self, target: Target) -> str | None:
        """Return the channel that a pod must hear because it holds the target; None if the base channels do."""
        ...


class Broadcast:
    """Every pod hears everything; a pod drops what it holds no connection for."""

    name: RoutingName = "broadcast"

    def __init__(self, shared: str, lanes: int) -> None:
        self.shared = shared
        self.lanes = lanes
        self.base = (shared, *[f"{shared}:@{lane}" for lane in range(lanes)]) if lanes > 1 else (shared,)

    def channel(self, targets: Sequence[Target]) -> str:
        """One target always takes the same lane, so its order holds."""
        if self.lanes == 1 or len(targets) > 1 or targets[0].kind == "everyone":
            return self.shared
        return self.base[1 + crc32(targets[0].wire) % self.lanes]

    def interest(self, target: Target) -> str | None:  # noqa: ARG002 -- every pod hears all
        """None: the base channels carry all."""
        return None


class Interest:
    """A channel per target, heard only by the pods that hold it."""

    name: RoutingName = "interest"
    lanes = 1

    def __init__(self, shared: str) -> None:
        self.shared = shared
        self.base = (shared,)
        self._names: dict[Target, str] = {}

    def channel(self, targets: Sequence[Target]) -> str:
        """A union has no channel of its own, so it takes the shared one."""
        return self.shared if len(targets) > 1 else self.interest(targets[0]) or self.shared

    def interest(self, target: Target) -> str | None:
        """Name the target's channel: `{channel}:@{kind}:{token}`."""
        name = self._names.get(target)
        if name is None:
            if target.kind == "everyone":
                return None
            name = f"{self.shared}:@{target.kind}:{id_token(target.id)}"
            if len(self._names) >= _MAX_CACHED_NAMES:
                self._names.clear()
            self._names[target] = name
        return name


def id_token(id_: str) -> str:
    """Return an id as a channel's word: itself where plain, else `=` and the first 32 hex digits of its SHA-256.

    No plain id starts with `=`, so the two never meet; 128 bits leave accidents to cosmology.
    """
    if _PLAIN_ID.fullmatch(id_):
        return id_
    return f"={hashlib.sha256(id_.encode()).hexdigest()[:32]}"


def make_routing(name: RoutingName, channel: str, lanes: int) -> Routing:
    """Return the routing of that name; the settings have checked what they say."""
    return Interest(channel) if name == "interest" else Broadcast(channel, lanes)

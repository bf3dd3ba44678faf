"""What the endpoints of one backplane have in common: its sockets and their counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final, Literal, TypeAlias
from weakref import WeakKeyDictionary

from attrs import define, field
from backplane_core import BaseBackplane

from backplane_asgi._sockets.encoding import (
    ChunkEncoding,
    Encoding,
    FrameEncoding,
    MessageEncoding,
    PlacedFrameEncoding,
    PlacedMessageEncoding,
    StreamEncoding,
)
from backplane_asgi._sockets.histogram import Histogram
from backplane_asgi._sockets.loop_lag import LoopLag
from backplane_asgi._sockets.outbound import Outbound

__all__ = ["KINDS", "Hub", "Kind", "hub_of"]

Kind: TypeAlias = Literal["websocket", "sse"]
"""How a client is connected."""
KINDS: Final[tuple[Kind, ...]] = ("websocket", "sse")


@define(eq=False)
class Hub:
    """The sockets of one backplane and their counts.

    Args:
        open: The sockets that are open, by how they are connected.
        closed: Ended sockets, by how they were connected and the code; 0 if the client went.
        refused: Refused clients, by how they came and why.
        sent_bytes: Bytes that sockets which have ended had been sent.
        published: How long publishes by HTTP took.
        lag: How late the event loop is, while somebody asks.
        is_stopping: Whether the process was asked to stop: health says so before the backplane drains.
    """

    open: dict[Kind, dict[Outbound, None]] = field(factory=lambda: {kind: {} for kind in KINDS}, init=False)
    closed: Counter[tuple[Kind, int]] = field(factory=Counter[tuple[Kind, int]], init=False)
    refused: Counter[tuple[Kind, str]] = field(factory=Counter[tuple[Kind, str]], init=False)
    sent_bytes: int = field(default=0, init=False)
    published: Histogram = field(factory=Histogram, init=False)
    lag: LoopLag = field(factory=LoopLag, init=False)
    is_stopping: bool = field(default=False, init=False)
    _ended: asyncio.Event = field(factory=asyncio.Event, init=False)
    frames: Encoding = field(factory=FrameEncoding, init=False)
    messages: Encoding = field(factory=MessageEncoding, init=False)
    placed_frames: Encoding = field(factory=PlacedFrameEncoding, init=False)
    placed_messages: Encoding = field(factory=PlacedMessageEncoding, init=False)
    stream: StreamEncoding = field(factory=StreamEncoding, init=False)
    chunks: ChunkEncoding = field(factory=ChunkEncoding, init=False)

    async def wait_empty(self) -> None:
        """Return once no socket is open."""
        while any(self.open.values()):
            self._ended.clear()
            await self._ended.wait()

    def socket_encoding(self, *, is_prepared: bool, has_places: bool) -> Encoding:
        """Return the form of a WebSocket's events.

        Args:
            is_prepared: Whether its server takes ready frames.
            has_places: Whether its client wants to know where it could resume.
        """
        if is_prepared:
            return self.placed_frames if has_places else self.frames
        return self.placed_messages if has_places else self.messages

    def opened(self, kind: Kind, outbound: Outbound) -> None:
        """Count a socket that is open from now on."""
        self.open[kind][outbound] = None

    def ended(self, kind: Kind, outbound: Outbound, code: int) -> None:
        """Count a socket that has ended."""
        self.open[kind].pop(outbound, None)
        self._ended.set()
        self.closed[kind, code] += 1
        self.sent_bytes += outbound.sent_bytes


_hubs: Final[WeakKeyDictionary[BaseBackplane, Hub]] = WeakKeyDictionary()


def hub_of(backplane: BaseBackplane) -> Hub:
    """Return what the endpoints of this backplane share."""
    hub = _hubs.get(backplane)
    if hub is None:
        hub = _hubs[backplane] = Hub()
    return hub

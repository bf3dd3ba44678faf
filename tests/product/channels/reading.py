"""Reads from a channel, and says that nothing came."""

from __future__ import annotations

import asyncio
from typing import Any

from backplane_channels import BackplaneChannelLayer

from tests.support.waiting import DEADLINE_S

__all__ = ["read", "read_all"]


async def read(layer: BackplaneChannelLayer, channel: str) -> dict[str, Any]:
    """Return the next message."""
    async with asyncio.timeout(DEADLINE_S):
        return await layer.receive(channel)


async def read_all(layer: BackplaneChannelLayer, channel: str) -> list[str]:
    """Return the types of all messages that are there, by one of our own that ends them."""
    await layer.group_add("the-end", channel)
    await layer.group_send("the-end", {"type": "end"})
    found: list[str] = []
    while (message := await read(layer, channel))["type"] != "end":
        found.append(message["type"])
    await layer.group_discard("the-end", channel)
    return found

"""Checks on what moves: order, completeness, bytes, channels."""

from __future__ import annotations

from typing import Final

from backplane_core.testing._harness import Harness, LinkCheck, promised
from backplane_core.testing._open_link import RECEIVE, SEND, fresh, links, same

__all__ = ["CHECKS", "check_frames_arrive_in_order", "check_payloads_arrive_unchanged"]

BATCH: Final = 250

PAYLOADS: Final = (
    b"{}",
    b"",
    bytes(range(256)),
    b"\0",
    b"\r\n",
    b"a\r\nb\nc\rd\0e",
    "ü🙂".encode(),
    b"\xff\xfe\xc3\x28",
    b"$-1\r\n+OK\r\nPING\r\nMSG x 1 2\r\n.\r\n",
    b" leading and trailing ",
    b"'\"\\;--%s{}",
)
"""What text protocols, C strings, line readers and trimming readers fall over."""


@promised
async def check_frames_arrive_in_order(harness: Harness) -> None:
    """Frames of a channel arrive in the order of their sending, none lost, none twice."""
    channels = [fresh(), fresh(), fresh()]
    sent = [(channels[number % 3], b"%d" % number) for number in range(3_000)]
    async with links(harness, 2) as (sender, receiver):
        await receiver.subscribe(*channels)
        for start in range(0, len(sent), BATCH):
            await sender.send(*sent[start : start + BATCH])
        for channel in channels:
            got = await receiver.settled(sender, channel)
            same(got, [payload for name, payload in sent if name == channel], RECEIVE)


@promised
async def check_payloads_arrive_unchanged(harness: Harness) -> None:
    """Payloads are bytes: every value, none at all, and what looks like a protocol arrive as they were sent."""
    channel = fresh()
    async with links(harness, 2) as (sender, receiver):
        await receiver.subscribe(channel)
        await sender.send(*[(channel, payload) for payload in PAYLOADS])
        same(await receiver.settled(sender, channel), PAYLOADS, SEND)


CHECKS: Final[tuple[LinkCheck, ...]] = (check_frames_arrive_in_order, check_payloads_arrive_unchanged)

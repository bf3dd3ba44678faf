"""Every check of the contract kit for links, over the master that a sentinel names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from attrs import frozen
from backplane_core import Transport
from backplane_core.testing import LINK_CHECKS, LinkCheck
from backplane_redis import SentinelStreamsTransport, SentinelTransport
from backplane_testservers.sentinels import SentinelSet

from tests.conftest import available

pytestmark = pytest.mark.thorough  # starts servers of its own


@frozen
class SentinelHarness:
    """One master; its sentinel is in no hurry to call it dead, so it comes back as what it was."""

    sentinels: SentinelSet
    over_streams: bool

    def make(self) -> Transport:
        if self.over_streams:
            return SentinelStreamsTransport(self.sentinels.url.replace("://", "+streams://", 1))
        return SentinelTransport(self.sentinels.url)

    async def cut(self) -> None:
        await asyncio.to_thread(self.sentinels.nodes[0].kill)

    async def restore(self) -> None:
        if not self.sentinels.nodes[0].running:
            await asyncio.to_thread(self.sentinels.nodes[0].start)


@pytest.fixture(scope="module")
def sentinels() -> Iterator[SentinelSet]:
    with available(SentinelSet(replicas=0, sentinels=1, down_after_ms=60_000)) as sentinels:
        yield sentinels


@pytest.mark.parametrize("over_streams", [False, True], ids=["pubsub", "streams"])
@pytest.mark.parametrize("check", LINK_CHECKS, ids=lambda check: check.__name__)
async def test_link(sentinels: SentinelSet, leaves_nothing: None, check: LinkCheck, *, over_streams: bool) -> None:
    harness = SentinelHarness(sentinels, over_streams)
    try:
        await check(harness)
    finally:
        await harness.restore()

"""Channels and subscribers that come and go leave nothing behind."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from backplane_litestar import BackplaneChannelsBackend
from litestar.channels import ChannelsPlugin

from tests.support.waiting import until

AT_ONCE = 500
ROUNDS = 40
ROUNDS_LONG = 200
WARM = 30
"""Rounds in which caches fill: core keeps 8,192 targets that were used recently. A channel that stays is 150 bytes."""


@pytest.mark.thorough
@pytest.mark.timeout(600)
async def test_channels_that_come_and_go_leave_nothing(redis_url: str, channel: str, *, long: bool) -> None:
    backend = BackplaneChannelsBackend(redis_url, channel=channel)
    plugin = ChannelsPlugin(backend, channels=["chat"])
    grown: list[int] = []
    async with plugin:
        tracemalloc.start()
        try:
            for number in range(WARM + (ROUNDS_LONG if long else ROUNDS)):
                if number == WARM:
                    grown.append(_used())
                names = [f"c{number}-{each}" for each in range(AT_ONCE)]
                await backend.subscribe(names)
                async with plugin.start_subscription("chat") as subscriber:
                    await backend.publish(b'{"n":1}', [*names, "chat"])
                    await backend.publish(b"x", ["chat"])
                    await until(lambda subscriber=subscriber: subscriber.qsize == 2, "both messages")  # type: ignore[misc]
                    await backend.unsubscribe(names)
                await backend.subscribe(["chat"])  # the plugin left it, with its only subscriber
            grown.append(_used())
        finally:
            tracemalloc.stop()
        assert backend.backplane.stats().targets == 1
        assert backend.backplane.stats().connections == 1
    before, after = grown
    assert after - before < 1024 * 1024, f"{(after - before) / 1024:.0f} KiB more"


def _used() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]

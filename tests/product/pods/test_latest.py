"""A connection that is behind skips what is outdated, whoever published it: over each broker and routing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from backplane_core import Event, Gap, Publisher, SyncPublisher, Target

from tests.support.fleets import Fleet
from tests.support.waiting import until

STOCKS = Target("room", "stocks")
KEYS = ("A", "B", "ü🙂")
ROUNDS = 200


@pytest.mark.parametrize("signing_keys", [None, [b"a key of thirty-two bytes or more"]], ids=["plain", "signed"])
async def test_of_each_key_the_newest_arrives_and_what_is_skipped_is_counted(
    fleet: Fleet, signing_keys: list[bytes] | None
) -> None:
    options: dict[str, Any] = {**fleet.options, "signing_keys": signing_keys}
    here, there = [await fleet.pod(signing_keys=signing_keys) for _ in range(2)]
    plain = await fleet.socket(there, "plain", STOCKS)
    async with (
        Publisher(fleet.url, **options) as publisher,
        there.connection(None, STOCKS, max_pending=10, overflow="latest") as behind,
        there.connection(None, STOCKS, overflow="latest", conflate="always") as newest_only,
    ):
        sync = SyncPublisher(fleet.url, **options)
        try:
            for number in range(ROUNDS):
                for key in KEYS:
                    await here.publish(STOCKS, [key, number], key=key)
            await until(lambda: len(plain.events) == ROUNDS * len(KEYS), "all arrive where nothing is skipped")
            assert (behind.pending, newest_only.pending) == (10, len(KEYS))
            await here.publish_json(STOCKS, '["A","json"]', key="A")
            await publisher.publish(STOCKS, ["B", "publisher"], key="B")
            await asyncio.to_thread(sync.publish, STOCKS, ["ü🙂", "sync"], key="ü🙂")
            await until(lambda: len(plain.events) == (ROUNDS + 1) * len(KEYS), "theirs arrive, too")
            await here.fleet.publish(STOCKS, ["A", "receipt"], key="A")
            here.publish_threadsafe(STOCKS, ["B", "thread"], key="B")
            await until(lambda: len(plain.events) == (ROUNDS + 1) * len(KEYS) + 2, "and these")
        finally:
            await asyncio.to_thread(sync.close)
        last = {"A": "receipt", "B": "thread", "ü🙂": "sync"}
        for connection in (behind, newest_only):
            items = connection.items()
            got: list[Event | Gap] = [await anext(items) for _ in range(connection.pending)]
            values = [item.value for item in got if isinstance(item, Event)]
            assert len(values) == len(got), "no gap"
            assert dict(values) == last
            assert values[-3:] == [["ü🙂", "sync"], ["A", "receipt"], ["B", "thread"]]
        published = (ROUNDS + 1) * len(KEYS) + 2
        stats = there.stats()
        assert (stats.conflated, stats.overflowed, stats.gaps) == (2 * published - 10 - len(KEYS), 0, {})

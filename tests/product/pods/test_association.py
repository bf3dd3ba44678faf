"""Association: confirmed before it returns True, right under churn, with nothing left behind."""

from __future__ import annotations

# pyright: reportPrivateUsage=false
# The pod's own count of subscriptions is looked at; Redis' is too, below.
import asyncio
import random
from typing import Any

import pytest
import redis.asyncio
from backplane_core import Target
from backplane_testservers import Broker

from tests.support.fleets import Fleet
from tests.support.inside import subscription_count
from tests.support.sockets import settled
from tests.support.waiting import until


async def test_what_is_published_right_after_associate_returned_true_arrives(fleet: Fleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await fleet.socket(there, "c1")
    for number in range(200):
        assert await there.associate("c1", Target("room", str(number))) is True
        await here.publish(Target("room", str(number)), number)
    assert sorted(await socket.has(200)) == list(range(200))


async def test_many_associations_at_once_are_all_confirmed(fleet: Fleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    socket = await fleet.socket(there, "c1")
    targets = [Target("room", str(number)) for number in range(2_000)]
    assert all(await asyncio.gather(*[there.associate("c1", target) for target in targets]))
    for number, target in enumerate(targets):
        await here.publish(target, number)
    assert sorted(await socket.has(2_000)) == list(range(2_000))


async def test_a_target_stays_heard_until_its_last_connection_leaves(fleet: Fleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    stays = await fleet.socket(there, "stays", Target.user("u1"))
    for number in range(50):
        leaves = await fleet.socket(there, f"leaves-{number}", Target.user("u1"))
        if number % 2:
            await there.dissociate(leaves.conn_id, Target.user("u1"))
        else:
            await there.detach(leaves.conn_id)
        await here.publish(Target.user("u1"), number)
    assert await stays.has(50) == list(range(50))


async def channels_of(client: Any, pattern: str) -> list[bytes]:
    channels: list[bytes] = await client.pubsub_channels(pattern)
    return channels


async def test_random_churn_ends_with_exactly_the_subscriptions_that_are_held(fleet: Fleet, routing: str) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    here, there = await fleet.pod(), await fleet.pod()
    socket = await fleet.socket(there, "c1")
    rooms = [Target("room", str(number)) for number in range(20)]
    held: set[Target] = set()
    for _ in range(600):
        target = chance.choice(rooms)
        # Not awaited to the end each time: churn overtakes confirmations.
        if chance.random() < 0.5:
            held.add(target)
            task: asyncio.Task[Any] = asyncio.create_task(there.associate("c1", target))
        else:
            held.discard(target)
            task = asyncio.create_task(there.dissociate("c1", target))
        await asyncio.sleep(0)
        if chance.random() < 0.3:
            await task
        else:
            background.add(task)
            task.add_done_callback(background.discard)
    await asyncio.gather(*background)
    for target in rooms:
        if target in held:
            assert await there.associate("c1", target) is True, f"seed {seed}"
        await here.publish(target, target.id)
    await settled(here, sockets=[socket])
    assert sorted(socket.events) == sorted([target.id for target in held]), f"seed {seed}"
    wanted = 1 + (len(held) + 1 if routing == "interest" else 0)
    await until(lambda: subscription_count(there) == wanted, f"no surplus subscription; seed {seed}")


background: set[asyncio.Future[Any]] = set()


@pytest.mark.parametrize("routing", ["interest"])
@pytest.mark.parametrize("shared_broker", ["redis"], indirect=False)
async def test_redis_itself_sees_only_the_shared_channel_once_all_connections_are_gone(
    redis_url: str, channel: str, leaves_nothing: None, routing: str, shared_broker: Broker | str
) -> None:
    fleet = Fleet(redis_url, {"channel": channel, "routing": routing})
    async with fleet.stack, redis.asyncio.from_url(redis_url) as client:
        pod = await fleet.pod()
        for number in range(100):
            await fleet.socket(pod, f"c{number}", Target.user(f"u{number % 10}"), Target.org("acme"))
        assert len(await channels_of(client, f"{channel}*")) == 1 + 100 + 10 + 1
        for number in range(100):
            await pod.detach(f"c{number}")

        async def surplus() -> int:
            return len(await channels_of(client, f"{channel}*")) - 1

        async with asyncio.timeout(10):
            while await surplus():  # noqa: ASYNC110 -- the broker tells nobody
                await asyncio.sleep(0.005)

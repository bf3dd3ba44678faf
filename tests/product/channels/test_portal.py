"""Code without an event loop: from threads, Celery tasks and greenlets all arrives, over one connection per process."""

from __future__ import annotations

import asyncio
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from asgiref.sync import async_to_sync
from backplane_channels import BackplaneChannelLayer
from backplane_testservers import Broker, OwnBroker

from tests.product.channels.conftest import MakeLayer
from tests.product.channels.reading import read
from tests.project.docs.projects import program

TASKS = 200

WORK = """
import os

from asgiref.sync import async_to_sync
from celery import Celery
from django.conf import settings

settings.configure(
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "backplane_channels.BackplaneChannelLayer",
            "CONFIG": {"hosts": [os.environ["LAYER_URL"]], "prefix": os.environ["LAYER_PREFIX"]},
        }
    }
)

from channels.layers import get_channel_layer

app = Celery("work", broker=os.environ["LAYER_URL"])


@app.task
def tell(number):
    message = {"type": "done", "number": number, "process": os.getpid()}
    async_to_sync(get_channel_layer().group_send)("g", message)
"""

SEND = f"""
from work import tell

for number in range({TASKS}):
    tell.delay(number)
"""

GREENLETS = """
from gevent import monkey

monkey.patch_all()

import os

import gevent
from backplane_channels import BackplaneChannelLayer

layer = BackplaneChannelLayer(
    os.environ["LAYER_URL"], prefix=os.environ["LAYER_PREFIX"], routing=os.environ["LAYER_ROUTING"]
)


def tell(number):
    layer.publisher.group_send("g", {"type": "done", "number": number, "process": os.getpid()})


gevent.joinall([gevent.spawn(tell, number) for number in range(200)], raise_error=True)
"""


async def clients_of(url: str) -> int:
    """Return how many connections a Redis has that subscribe to nothing, without the one that asks."""
    client: Any = redis.asyncio.Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType] -- redis-py's gap
    async with client:
        listed: list[dict[str, str]] = await client.client_list()
    return sum(one["sub"] == "0" and one["ssub"] == "0" for one in listed) - 1


async def test_ten_threads_send_over_one_connection(layers: MakeLayer, redis_server: OwnBroker) -> None:
    here = layers(url=redis_server.url, capacity=10_000)
    there = layers(url=None, hosts=[redis_server.url])
    channel = await here.new_channel()
    await here.group_add("g", channel)
    before = await clients_of(redis_server.url)

    def work(thread: int) -> None:
        for number in range(30):
            async_to_sync(there.group_send)("g", {"type": "x", "thread": thread, "number": number})

    with ThreadPoolExecutor(10) as pool:
        await asyncio.gather(*[asyncio.get_running_loop().run_in_executor(pool, work, number) for number in range(10)])
    got = [await read(here, channel) for _ in range(300)]
    for thread in range(10):
        assert [one["number"] for one in got if one["thread"] == thread] == list(range(30))
    assert await clients_of(redis_server.url) <= before + 1


async def test_two_hundred_celery_tasks_reach_every_consumer(tmp_path: Path, redis_server: OwnBroker) -> None:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "send.py").write_text(SEND)
    layer = BackplaneChannelLayer(redis_server.url, prefix="celery", capacity=10_000)
    channel = await layer.new_channel()
    await layer.group_add("g", channel)
    env = {"LAYER_URL": redis_server.url, "LAYER_PREFIX": "celery", "C_FORCE_ROOT": "1"}
    worker = ("-m", "celery", "-A", "work", "worker", "--pool", "prefork", "-c", "2", "--loglevel", "INFO")
    async with program(tmp_path, "send.py", env=env) as sender:
        await sender.ends()
    async with program(tmp_path, *worker, env=env) as celery:
        got = [await read(layer, channel) for _ in range(TASKS)]
        celery.process.send_signal(signal.SIGTERM)
        assert "Traceback" not in await celery.ends()
    assert sorted(one["number"] for one in got) == list(range(TASKS))
    stats = layer.stats()
    assert stats is not None
    assert stats.gaps == {}
    await layer.close()


@pytest.mark.skipif(sys.platform == "win32", reason="gevent comes for the others")
async def test_greenlets_send(tmp_path: Path, layers: MakeLayer, shared_broker: Broker, routing: str) -> None:
    here = layers(capacity=1_000)
    channel = await here.new_channel()
    await here.group_add("g", channel)
    (tmp_path / "greenlets.py").write_text(GREENLETS)
    env = {"LAYER_URL": shared_broker.url, "LAYER_PREFIX": here.prefix, "LAYER_ROUTING": routing}
    reading = asyncio.ensure_future(read_numbers(here, channel))
    async with program(tmp_path, "greenlets.py", env=env) as greenlets:
        await greenlets.ends()
    assert sorted(await reading) == list(range(200))


async def read_numbers(layer: BackplaneChannelLayer, channel: str) -> list[int]:
    return [(await read(layer, channel))["number"] for _ in range(200)]

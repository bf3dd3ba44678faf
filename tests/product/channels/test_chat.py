"""A chat on several server processes: over both brokers, under several servers, through kills and rolling restarts."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest
from backplane_testservers import OwnBroker

from tests.product.asgi.servers import need
from tests.product.channels.chat import Page, serve
from tests.support.waiting import until


@pytest.mark.parametrize("server", ["uvicorn", "daphne", "runserver"])
async def test_pages_of_two_servers_talk(broker: OwnBroker, tmp_path: Path, server: str) -> None:
    if server != "uvicorn":
        need("daphne")
    log = tmp_path / "log"
    async with (
        serve(broker.url, log, server) as here,
        serve(broker.url, log, server) as there,
        Page(here.url, ["a", "b"]).open() as ann,
        Page(there.url, ["a"]).open() as bob,
    ):
        for number in range(50):
            await ann.say("a", number)
        await bob.say("a", "thanks")
        await bob.say("b", "to a room that I am not in")
        for page in (ann, bob):
            await until(lambda: {"thanks", 49} <= set(page.texts("a")), "all of room a")  # noqa: B023 -- waited for here
        await until(lambda: ann.texts("b"), "ann has what was said in room b")
        for page in (ann, bob):
            assert [text for text in page.texts("a") if text != "thanks"] == list(range(50))
            assert "gap" not in page.items
        async with httpx2.AsyncClient(trust_env=False) as client:  # from a view without an event loop
            answer = await client.post(f"http://127.0.0.1:{here.port}/rooms/a", content="from a view")
            assert answer.status_code == 204
        await until(lambda: "from a view" in ann.texts("a") and "from a view" in bob.texts("a"), "the view's")
        await bob.send({"leave": "a"})
        await until(lambda: "left" in bob.items, "bob has left")
        await ann.say("a", "is anyone there?")
        await until(lambda: "is anyone there?" in ann.texts("a"), "ann has her own")
        await ann.say("a", "no")
        await until(lambda: "no" in ann.texts("a"), "ann has her own")
        assert "no" not in bob.texts("a")
    assert "Traceback" not in log.read_text()


async def test_a_killed_broker_ends_no_consumer_and_what_is_missing_is_a_gap(broker: OwnBroker, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with (
        serve(broker.url, log) as here,
        serve(broker.url, log) as there,
        Page(here.url, ["a"]).open() as ann,
        Page(there.url, ["a"]).open() as bob,
    ):
        said = 0

        async def say(count: int) -> None:
            nonlocal said
            for _ in range(count):
                await ann.say("a", said)
                said += 1
                await asyncio.sleep(0.001)

        await say(100)
        await until(lambda: 99 in bob.texts("a"), "bob has the first ones")
        broker.kill()
        await say(100)  # the page's own server delivers all the same
        await until(lambda: 199 in ann.texts("a"), "ann has what she said while the broker was away")
        broker.restart()
        await until(lambda: "gap" in ann.items and "gap" in bob.items, "both know of the gap")
        await say(100)
        await until(lambda: 299 in bob.texts("a") and 299 in ann.texts("a"), "service resumes")
        assert ann.texts("a") == list(range(300))
        got = bob.texts("a")
        assert got == sorted(set(got))  # never twice, in order
        # All that is missing lies between the first gap's neighbours.
        before = [item[1] for item in bob.items[: bob.items.index("gap")] if item != "gap"]
        assert before == list(range(len(before)))
        last_gap = len(bob.items) - 1 - bob.items[::-1].index("gap")
        after = [item[1] for item in bob.items[last_gap + 1 :]]
        assert after == list(range(after[0], 300))
        assert (ann.opened, bob.opened, ann.codes + bob.codes) == (1, 1, [])
    assert "Traceback" not in log.read_text()


async def test_a_rolling_restart_under_traffic_loses_nothing_unexplained(broker: OwnBroker, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serve(broker.url, log)) for _ in range(2)]
        staying = await stack.enter_async_context(serve(broker.url, log))
        speaker = await stack.enter_async_context(Page(staying.url, ["a"]).open())
        pages = [await stack.enter_async_context(Page(servers[number % 2].url, ["a"]).open()) for number in range(10)]
        talking = True
        said = 0

        async def talk() -> None:
            nonlocal said
            while talking:
                await speaker.say("a", said)
                said += 1
                await asyncio.sleep(0.002)

        async with asyncio.TaskGroup() as group:
            group.create_task(talk())
            for server in servers:
                await until(lambda: said > 50, "there is traffic")
                mine = [page for page in pages if page.url == server.url]
                opened = {id(page): page.opened for page in mine}
                await server.stop()
                new = await stack.enter_async_context(serve(broker.url, log, port=server.port))
                assert new.port == server.port
                await until(lambda: all(page.opened > opened[id(page)] for page in mine), "the pages are back")  # noqa: B023 -- waited for here
            talking = False
        await until(lambda: all(said - 1 in page.texts("a") for page in [speaker, *pages]), "all have the last one")
        assert speaker.texts("a") == list(range(said))
        for page in pages:
            assert page.opened == 2
            got = page.texts("a")
            assert got == sorted(set(got))
            cut = page.items.index("gap")
            before = [item[1] for item in page.items[:cut]]
            after = [item[1] for item in page.items[cut:] if item != "gap"]
            assert before == list(range(len(before)))
            assert after == list(range(after[0], said))
    assert "Traceback" not in log.read_text()

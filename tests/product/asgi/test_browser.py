"""`backplane.js` in a real browser, against real servers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from backplane_core import Target, connect
from playwright.async_api import Page, async_playwright

from tests.product.asgi.gate import gate_before
from tests.product.asgi.servers import Server, serve
from tests.support.browser import FLAGS
from tests.support.waiting import until

PAGE = """
async ([url, options]) => {
  const { connect } = await import("/ws/backplane.js");
  window.seen = [];
  window.events = connect(url, {
    ...options,
    random: () => 0,  // as soon as it may
    onEvent: (event) => seen.push(["event", event]),
    onGap: (gap) => seen.push(["gap", gap.cause, gap.open]),
    onState: (state, why) => seen.push(["state", state, why?.code ?? null]),
  });
}
"""

pytestmark = pytest.mark.xdist_group("browser")


@asynccontextmanager
async def page_of(server: Server, chromium: str) -> AsyncGenerator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            page = await browser.new_page()
            await page.goto(f"{server.url}/health/live")  # any page of this origin
            yield page
        finally:
            await browser.close()


async def sees(page: Page, *wanted: Any) -> None:
    """Wait until the page has seen this, in this order, and perhaps more between."""
    script = """(wanted) => {
      const left = wanted.map((it) => JSON.stringify(it));
      for (const it of window.seen ?? []) if (JSON.stringify(it) === left[0]) left.shift();
      return left.length === 0;
    }"""
    try:
        await page.wait_for_function(script, arg=list(wanted), timeout=20_000)
    except Exception as error:
        raise AssertionError(f"{wanted} is not in {await page.evaluate('window.seen')}") from error


async def test_a_page_gets_events_comes_back_and_knows_what_it_may_have_missed(
    chromium: str, redis_server: Any
) -> None:
    async with serve(redis_server.url, SERVICE_STALE_AFTER_S="0.2") as server, page_of(server, chromium) as page:
        await page.evaluate(PAGE, ["/frames?user=ann", {}])
        await sees(page, ["state", "connecting", None], ["state", "live", None])
        assert await server.publish("user:ann", {"n": 1}) == 1
        await sees(page, ["event", {"n": 1}])
        await page.evaluate("events.subscribe('room:1')")
        for _ in range(1_000):
            if await server.publish("room:1", "in the room"):
                break
            await asyncio.sleep(0.01)
        await sees(page, ["event", "in the room"])
        # The broker goes, and comes back.
        redis_server.kill()
        await sees(page, ["state", "stale", None], ["gap", "reconnect", True])
        await asyncio.to_thread(redis_server.start)
        await sees(page, ["gap", "reconnect", True], ["state", "live", None], ["gap", "reconnect", False])
        # Its connection goes, and it comes back, and subscribes again.
        await page.evaluate("events.socket.close()")
        await sees(page, ["state", "connecting", None], ["state", "live", None], ["gap", "disconnected", False])
        for _ in range(1_000):
            if await server.publish("room:1", "again"):
                break
            await asyncio.sleep(0.01)
        await sees(page, ["gap", "disconnected", False], ["event", "again"])
        await page.evaluate("events.close()")
        await sees(page, ["state", "closed", None])
        await server.metric_is("backplane_connections", 0)


async def test_a_page_that_is_refused_does_not_come_back(chromium: str) -> None:
    async with serve() as server, page_of(server, chromium) as page:
        await page.evaluate(PAGE, ["/ws?user=mallory", {}])
        await sees(page, ["state", "closed", 4403])
        assert 'reason="4403"} 1\n' in (await server.get("/metrics")).text


TOKENS = """
(lifetimes) => {
  // A token of a user, until when, and the rooms: as the service of these tests reads them.
  window.asked = 0;
  return async () => {
    const lifetime = lifetimes[Math.min(asked, lifetimes.length - 1)];
    asked += 1;
    if (lifetime === "fails") throw new Error("not now");
    return lifetime === null ? null : `ann~${Date.now() / 1000 + lifetime}`;
  };
}
"""


async def with_tokens(page: Page, *lifetimes: float | str | None) -> None:
    script = PAGE.replace("...options,", f"...options, token: ({TOKENS})(options.lifetimes),")
    await page.evaluate(script, ["/ws", {"lifetimes": [*lifetimes]}])


async def test_a_page_renews_its_token_before_it_expires_and_no_event_is_missed(chromium: str) -> None:
    async with serve() as server, page_of(server, chromium) as page:
        await with_tokens(page, "fails", 6, 8, 600)  # the first one can't be had: it comes back
        await sees(page, ["state", "live", None])
        assert await server.publish("user:ann", 1) == 1
        await page.wait_for_function("() => asked === 4", timeout=30_000)
        assert await server.publish("user:ann", 2) == 1
        await sees(page, ["event", 1], ["event", 2])
        states = [it[1] for it in await page.evaluate("seen") if it[0] == "state"]
        assert states == ["connecting", "live"], "on one socket"


async def test_a_page_that_slept_past_its_token_comes_back_with_a_new_one_and_ends_once_there_is_none(
    chromium: str,
) -> None:
    async with serve() as server, page_of(server, chromium) as page:
        await with_tokens(page, 4, 4, None)
        await sees(page, ["state", "live", None])
        await page.evaluate("clearTimeout(events.renewal)")  # as a machine that sleeps
        await sees(page, ["state", "live", None], ["state", "connecting", 4401], ["state", "live", None])
        await sees(page, ["state", "closed", 4401])
        assert await page.evaluate("asked") == 3


async def test_a_page_whose_token_is_refused_at_once_does_not_come_back(chromium: str) -> None:
    async with serve() as server, page_of(server, chromium) as page:
        await with_tokens(page, -5)
        await sees(page, ["state", "live", None], ["state", "closed", 4401])


async def test_a_page_whose_sockets_do_not_get_through_takes_a_stream(chromium: str, redis_server: Any) -> None:
    async with serve(redis_server.url) as server, page_of(server, chromium) as page:
        # The server answers 403 to each handshake there, as some proxies do.
        await page.evaluate(PAGE, ["/sse?user=ann", {"sse": "/sse?user=ann"}])
        await sees(page, ["state", "live", None])
        await server.metric_is("backplane_connections", 1)
        assert await server.publish("user:ann", {"n": 1}) == 1
        await sees(page, ["event", {"n": 1}])
        redis_server.kill()
        await asyncio.to_thread(redis_server.start)
        await sees(page, ["gap", "reconnect", False])


async def test_a_page_learns_why_its_stream_ended_and_stays_away_where_it_should(chromium: str) -> None:
    sse = "/sse?user=ann&conn_id=tab"
    async with serve() as server, page_of(server, chromium) as page:
        await page.evaluate("delete window.WebSocket")
        await page.evaluate(PAGE, [sse, {"sse": sse}])
        await sees(page, ["state", "live", None])
        async with server.client.stream("GET", sse):  # another tab, with the same id
            await sees(page, ["state", "closed", 4409])
            await server.metric_is('backplane_gateway_closed_total{transport="sse",code="4409"}', 1)
        await page.evaluate(PAGE, [sse, {"sse": sse}])
        await sees(page, ["state", "live", None])
        server.terminate()
        await sees(page, ["state", "connecting", 1001])


async def is_live_by(page: Page, way: str) -> None:
    await page.wait_for_function(f"() => events.state === 'live' && events.{way} !== undefined", timeout=30_000)


async def test_a_page_goes_on_trying_both_ways_whichever_got_through_before(chromium: str) -> None:
    async with (
        serve() as server,
        gate_before(server.port) as gate,
        page_of(server, chromium) as page,
    ):
        await page.goto(f"http://127.0.0.1:{gate.port}/health/live")
        gate.cut("socket")
        await page.evaluate(PAGE, ["/ws?user=ann", {"sse": "/sse?user=ann"}])
        await is_live_by(page, "stream")
        gate.cut("socket", "stream")
        await until(lambda: {*gate.turned_away} == {"socket", "stream"}, "it tries both while neither gets through", 30)
        for way, closed_to in (("stream", "socket"), ("socket", "stream"), ("stream", "socket")):
            gate.cut(closed_to)
            await is_live_by(page, way)
            await server.metric_is("backplane_connections", 1)
            assert await server.publish("user:ann", way) == 1
            await sees(page, ["event", way])


async def has_all(page: Page, numbers: range) -> None:
    """Wait until a page has these, each once, the odd and the even ones in order, and nothing else but states."""
    for first in numbers[:2]:  # two targets, whose events may overtake each other
        await sees(page, *[["event", number] for number in numbers if (number - first) % 2 == 0])
    seen = [it for it in await page.evaluate("seen") if it[0] != "state"]
    assert sorted(seen) == [["event", number] for number in numbers]


async def test_a_page_that_changes_servers_or_is_loaded_again_gets_what_it_missed(
    chromium: str, redis_server: Any
) -> None:
    url = redis_server.url.replace("://", "+streams://", 1)
    room = Target("room", "1")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        async with (
            connect(url, channel="page") as worker,
            serve(url, listener=listener, BACKPLANE_CHANNEL="page") as first,
            page_of(first, chromium) as page,
        ):
            await page.evaluate(PAGE, ["/ws?user=ann", {"targets": ["room:1"]}])
            await page.wait_for_function("() => events.lastEventId !== null", timeout=20_000)
            await worker.publish(Target.user("ann"), 1)
            await worker.publish(room, 2)
            await sees(page, ["event", 1])
            await sees(page, ["event", 2])
            first.terminate()
            await first.ends()
            await sees(page, ["state", "live", None], ["state", "connecting", 1001])
            for number in range(3, 50):
                await worker.publish(Target.user("ann") if number % 2 else room, number)
            async with serve(url, listener=listener, BACKPLANE_CHANNEL="page") as second:
                await has_all(page, range(1, 50))
                last_id = await page.evaluate("events.lastEventId")
                await page.goto(f"{second.url}/health/live")
                for number in range(50, 60):
                    await worker.publish(Target.user("ann") if number % 2 else room, number)
                await page.evaluate(PAGE, ["/ws?user=ann", {"targets": ["room:1"], "lastEventId": last_id}])
                await has_all(page, range(50, 60))
                await worker.publish(room, "live")
                await sees(page, ["event", "live"])


async def test_the_script_is_served_once_and_then_known(chromium: str) -> None:
    async with serve() as server:
        answer = await server.get("/sse/backplane.js")
        assert answer.headers["content-type"].startswith("text/javascript")
        again = await server.get("/ws/backplane.js", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")

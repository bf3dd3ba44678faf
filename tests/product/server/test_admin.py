"""`/admin`: a page for those with the role, that shows the whole fleet; nothing of it is there for anybody else."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from backplane_testservers import Broker
from playwright.async_api import Locator, Page, async_playwright, expect
from websockets.asyncio.client import connect

from tests.product.server.gateways import SECRET, Gateway, closed, gateway, token
from tests.support.browser import FLAGS
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.xdist_group("browser")
expect.set_options(timeout=20_000)

PATHS = (
    ("GET", "about.json"),
    ("GET", "status.json"),
    ("POST", "publish"),
    ("POST", "kick"),
)


def admin(**claims: Any) -> str:
    return token(sub="root", backplane={"roles": ["admin"]}, **claims)


@asynccontextmanager
async def gateway_with_admin(name: str, url: str, channel: str) -> AsyncGenerator[Gateway]:
    env = {"BACKPLANE_SERVE_JWT_SECRET": SECRET, "BACKPLANE_POD_NAME": name}
    async with gateway("--admin", url=url, channel=channel, env=env) as served:
        yield served


@asynccontextmanager
async def page_of(served: Gateway, chromium: str, *, is_phone: bool = False) -> AsyncGenerator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            page = await browser.new_page(
                viewport={"width": 360 if is_phone else 1280, "height": 800},
                color_scheme="dark" if is_phone else "light",
            )
            complaints: list[str] = []
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda it: complaints.append(it.text) if "Content Security" in it.text else None)
            page.on("request", lambda it: None if served.address in it.url else complaints.append(it.url))
            await page.goto(f"http://{served.address}/admin")
            yield page
            assert [it for it in complaints if not it.startswith("data:")] == []
        finally:
            await browser.close()


async def sign_in(page: Page, shown: str) -> None:
    await page.get_by_label("Token with the role admin").fill(shown)
    await page.keyboard.press("Enter")


def present(page: Page) -> Locator:
    return page.locator("#present tr")


async def publish(page: Page, target: str, event: str) -> None:
    form = page.locator("#publish")
    await form.get_by_label("To").fill(target)
    await form.get_by_label("Event, as JSON").fill(event)
    await form.get_by_role("button", name="Publish").click()


async def test_an_administrator_sees_publishes_to_and_kicks_clients_of_every_gateway(
    chromium: str, shared_broker: Broker, channel: str
) -> None:
    async with (
        gateway_with_admin("web-1", shared_broker.url, channel) as first,
        gateway_with_admin("web-2", shared_broker.url, channel) as second,
        first.websocket(token(sub="ann", backplane={"presence": {"name": "Ann"}})) as ann,
        second.websocket(token(sub="bob", backplane={"presence": {"name": "Bob"}})) as bob,
        page_of(first, chromium) as page,
    ):
        await sign_in(page, token())
        await expect(page.get_by_role("alert")).to_contain_text("no role admin")
        await sign_in(page, admin())
        await expect(page.locator("#fleet tr")).to_have_count(2)
        await expect(page.locator("#fleet")).to_contain_text("web-1")
        await expect(page.locator("#pods")).to_contain_text("web-2 live")
        await expect(present(page)).to_contain_text(["annweb-1", "bobweb-2"])
        await expect(page.locator("polyline")).to_have_count(3)
        await expect(page.get_by_role("button", name="Kill the broker")).to_be_hidden()
        await expect(page.get_by_role("button", name="Start a job")).to_be_hidden()
        # A column of its own, which gets what is for everyone.
        await page.get_by_label("Events of", exact=True).fill("user:bob")
        await page.get_by_role("button", name="Add a socket").click()
        column = page.get_by_role("article", name="user:bob")
        await expect(column.locator(".chip")).to_have_text("live")
        evil = '{"text":"<img src=x onerror=alert(1)>"}'
        await publish(page, "user:bob", evil)
        async with asyncio.timeout(DEADLINE_S):
            assert json.loads(await bob.recv()) == json.loads(evil)
        await expect(column.locator("ol li")).to_contain_text([evil])
        assert await page.locator("img").count() == 0
        await publish(page, "user:bob", "no JSON")
        await expect(page.get_by_role("status")).to_contain_text("an event is JSON")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.get_by_role("button", name="Kick bob").click()
        assert await closed(bob) == (4403, "kicked by an administrator")
        await expect(page.get_by_role("status")).to_contain_text("of bob")
        await expect(present(page)).to_have_count(1)
        await ann.ping()
        await page.locator("#publish").get_by_label("To").fill("user:ann")
        await page.get_by_role("button", name="Kick", exact=True).click()
        assert (await closed(ann))[0] == 4403


async def test_an_administrator_whose_token_has_expired_is_asked_for_another(
    chromium: str, redis_url: str, channel: str
) -> None:
    async with gateway_with_admin("web-1", redis_url, channel) as served, page_of(served, chromium) as page:
        await sign_in(page, admin(exp=time.time() - 7))  # 10 s are granted to clocks that differ
        await expect(page.locator("#fleet")).to_contain_text("web-1")
        await expect(page.get_by_role("alert")).to_contain_text("expired")
        await expect(page.locator("#fleet")).to_be_hidden()
        await sign_in(page, admin())
        await expect(page.locator("#fleet")).to_be_visible()
        assert await page.get_by_label("Token with the role admin").input_value() == ""


async def test_it_is_used_with_the_keyboard_on_a_phone_in_the_dark(chromium: str, redis_url: str, channel: str) -> None:
    async with (
        gateway_with_admin("web-1", redis_url, channel) as served,
        page_of(served, chromium, is_phone=True) as page,
    ):
        await expect(page.get_by_label("Token with the role admin")).to_be_focused()
        await page.keyboard.type(admin())
        await page.keyboard.press("Enter")
        await expect(page.locator("#fleet")).to_contain_text("web-1")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        assert await page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(15, 19, 26)"
        await page.get_by_label("Events of", exact=True).focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("article", name="everyone").locator(".chip")).to_have_text("live")


async def test_nobody_else_gets_anything_of_it(redis_url: str, channel: str) -> None:
    async with gateway_with_admin("web-1", redis_url, channel) as served:
        page = await served.http.get(f"http://{served.address}/admin/")
        assert page.status_code == 200, "it holds nothing: a browser can show a token only once it is there"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        for shown, status in ((None, 401), ("x.y.z", 401), (token(backplane={"roles": ["publisher"]}), 403)):
            headers = {} if shown is None else {"Authorization": f"Bearer {shown}"}
            for method, path in PATHS:
                url = f"http://{served.address}/admin/{path}"
                answer = await served.http.request(method, url, headers=headers, json={"target": "everyone"})
                assert (answer.status_code, [*answer.json()]) == (status, ["error"]), path
            url = f"ws://{served.address}/admin/ws?target=everyone"
            async with connect(url, additional_headers=headers, proxy=None) as websocket:
                assert (await closed(websocket))[0] == 4000 + 400 + status % 100
        # A form of another site, with an administrator's cookie, has no such type.
        answer = await served.http.post(
            f"http://{served.address}/admin/kick",
            headers={"Authorization": f"Bearer {admin()}", "Content-Type": "text/plain"},
            content='{"target":"everyone"}',
        )
        assert answer.status_code == 415


async def test_without_the_flag_there_is_no_such_page(redis_url: str, channel: str) -> None:
    async with gateway(url=redis_url, channel=channel) as served:
        for path in ("/admin", "/admin/", "/admin/status.json", "/admin/ws"):
            assert await served.status(path) == 404

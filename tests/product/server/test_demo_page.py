"""The page of `backplane demo`, in a browser."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Locator, Page, async_playwright, expect

from tests.product.server.test_demo import demo
from tests.support.browser import FLAGS

pytestmark = pytest.mark.xdist_group("browser")
expect.set_options(timeout=20_000)


@asynccontextmanager
async def page_of(port: int, chromium: str, *, is_phone: bool = False) -> AsyncGenerator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            page = await browser.new_page(
                viewport={"width": 360 if is_phone else 1280, "height": 800},
                color_scheme="dark" if is_phone else "light",
                has_touch=is_phone,
            )
            complaints: list[str] = []
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda it: complaints.append(it.text) if "Content Security" in it.text else None)
            await page.goto(f"http://127.0.0.1:{port}/")
            for name in ("ann on pod-a", "ann on pod-b", "bob on pod-b"):
                await expect(column(page, name).locator(".chip")).to_have_text("live")
            yield page
            assert complaints == []
        finally:
            await browser.close()


def column(page: Page, name: str) -> Locator:
    return page.get_by_role("article", name=name)


def events(page: Page, name: str) -> Locator:
    return column(page, name).locator("ol li")


async def publish(page: Page, target: str, text: str, pod: str = "pod-a", button: str = "Publish") -> None:
    form = page.locator("#publish")
    await form.get_by_label("To").fill(target)
    await form.get_by_label("Text").fill(text)
    await form.get_by_label("On pod").select_option(pod)
    await form.get_by_role("button", name=button, exact=True).click()


async def test_events_cross_pods_and_what_they_hold_is_text(chromium: str) -> None:
    async with demo() as (_, port), page_of(port, chromium) as page:
        evil = "<img src=x onerror=alert(1)>"
        await publish(page, "user:ann", evil)
        for name, way in (("ann on pod-a", "on pod-a"), ("ann on pod-b", "pod-a → pod-b")):
            await expect(events(page, name)).to_have_count(1)
            await expect(events(page, name)).to_contain_text(evil)
            await expect(events(page, name).locator(".soft")).to_contain_text(way)
            await expect(events(page, name).locator(".soft")).to_contain_text("s")
        assert await page.locator("img").count() == 0
        await expect(page.get_by_role("status")).to_contain_text("pod-a delivered to 1 of its own sockets")
        await publish(page, "no target", "x")
        await expect(page.get_by_role("status")).to_contain_text("a target is a kind and an id")
        await publish(page, "everyone", "many", "pod-b", "100 of them")
        await expect(events(page, "bob on pod-b").last).to_contain_text("many 100")
        await expect(events(page, "bob on pod-b")).to_have_count(100)
        await page.locator("#publish").get_by_label("To").fill("user:bob")
        await page.get_by_role("button", name="Start a job").click()
        await expect(events(page, "bob on pod-b").last).to_contain_text("100 %, worker → pod-b")
        await expect(page.locator("polyline")).to_have_count(6)


async def test_the_broker_is_killed_comes_back_and_nothing_is_missing(chromium: str) -> None:
    async with demo() as (_, port), page_of(port, chromium) as page:
        await page.get_by_role("button", name="Kill the broker").click()
        await expect(page.locator("#broker")).to_contain_text("down")
        await expect(page.locator("#story")).to_contain_text("pod-a: live → degraded")
        await publish(page, "user:ann", "meanwhile")
        await expect(events(page, "ann on pod-a")).to_contain_text(["meanwhile"])
        await expect(events(page, "ann on pod-b")).to_have_count(0)
        await page.get_by_role("button", name="Start it again").click()
        await expect(events(page, "ann on pod-b")).to_contain_text(["meanwhile"])
        await expect(page.locator("#story")).to_contain_text("pod-b: degraded → live")
        for name in ("ann on pod-a", "ann on pod-b"):
            await expect(events(page, name)).to_have_count(1)


async def test_without_a_log_an_outage_is_shown_as_a_gap(chromium: str) -> None:
    async with demo("--no-log") as (_, port), page_of(port, chromium) as page:
        bob = column(page, "bob on pod-b")
        await page.get_by_role("button", name="Kill the broker").click()
        await expect(bob.locator(".chip")).to_have_text("stale")
        await expect(events(page, "bob on pod-b")).to_contain_text(["Gap: this pod is cut off from the broker"])
        await page.get_by_role("button", name="Start it again").click()
        await expect(bob.locator(".chip")).to_have_text("live")
        await expect(events(page, "bob on pod-b").last).to_contain_text("Gap: events may be missing (reconnect")


async def test_a_socket_goes_offline_and_catches_up_and_one_that_is_kicked_stays_away(chromium: str) -> None:
    async with demo() as (_, port), page_of(port, chromium) as page:
        bob = column(page, "bob on pod-b")
        await publish(page, "user:bob", "before")
        await expect(events(page, "bob on pod-b")).to_have_count(1)
        await bob.get_by_role("button", name="Go offline").click()
        await expect(page.locator("#present")).not_to_contain_text("bob")
        await publish(page, "user:bob", "meanwhile")
        await expect(page.get_by_role("status")).to_contain_text("delivered to 0")
        await bob.get_by_role("button", name="Come back").click()
        await expect(events(page, "bob on pod-b")).to_have_count(2)
        await expect(events(page, "bob on pod-b").last).to_contain_text("pod-a → pod-b, caught up")
        await expect(page.locator("#present tr")).to_contain_text(["annpod-a, pod-b", "bobpod-b"])
        await page.get_by_role("button", name="Kick ann").click()
        for name in ("ann on pod-a", "ann on pod-b"):
            await expect(events(page, name)).to_contain_text(["closed with 4403: kicked from the page"])
        await expect(page.locator("#present")).not_to_contain_text("ann")
        await expect(bob.locator(".chip")).to_have_text("live")


async def test_it_is_used_with_the_keyboard_on_a_phone_in_the_dark(chromium: str) -> None:
    async with demo() as (_, port), page_of(port, chromium, is_phone=True) as page:
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        assert await page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(15, 19, 26)"
        await page.locator("#add").get_by_label("User").focus()
        await page.keyboard.type("x")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("article")).to_have_count(4)
        await column(page, "bob on pod-b").get_by_role("textbox").focus()
        await page.keyboard.press("Enter")
        await expect(column(page, "bob on pod-b").locator(".targets")).to_have_text("user:bob, room:1")
        await publish(page, "room:1", "in the room")
        await expect(events(page, "bob on pod-b")).to_contain_text(["in the room"])

"""`backplane demo` opens its page in the browser of the person who sits at the terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from backplane_server._demo.ports import request

from tests.support.waiting import DEADLINE_S, until


@asynccontextmanager
async def demo_at_a_terminal(
    browser: Path, *flags: str
) -> AsyncGenerator[tuple[asyncio.subprocess.Process, list[str]]]:
    """Run a demo whose errors go to a terminal; yield it and what it says there. `browser` is the person's own."""
    ours, its = pty.openpty()
    env = {name: value for name, value in os.environ.items() if not name.startswith("BACKPLANE")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "backplane_server", "demo", "--port", "0", *flags),
        env={**env, "BROWSER": f"{browser} %s", "DISPLAY": ":99"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=its,
    )
    os.close(its)
    said: list[str] = []
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, _read, ours, said)
    try:
        yield process, said
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(DEADLINE_S):
            assert await process.wait() == 0, said
    finally:
        loop.remove_reader(ours)
        os.close(ours)
        if process.returncode is None:
            process.kill()
            await process.wait()


def _read(terminal: int, said: list[str]) -> None:
    with suppress(OSError):  # its other end is closed
        said.append(os.read(terminal, 4096).decode(errors="replace"))


@pytest.fixture
def browser(tmp_path: Path) -> Path:
    """Return a browser that writes down what it is to show."""
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\nprintf %s "$1" > "{tmp_path}/part" && mv "{tmp_path}/part" "{tmp_path}/shown"\n')
    script.chmod(0o755)
    return script


async def test_the_page_that_the_browser_is_given_is_there(browser: Path) -> None:
    shown = browser.with_name("shown")
    async with demo_at_a_terminal(browser) as (_, said):
        await until(shown.exists, "a browser is opened")
        url = shown.read_text()
        assert f"open {url} in a browser" in "".join(said)
        status, body = await request(int(url.rpartition(":")[2].rstrip("/")), "GET", "/")
        assert (status, b"Backplane" in body) == (200, True)


async def test_no_browser_is_opened_for_who_says_so(browser: Path) -> None:
    async with demo_at_a_terminal(browser, "--no-open") as (_, said):
        await until(lambda: "in a browser" in "".join(said), "it says where the page is")
    assert not browser.with_name("shown").exists()

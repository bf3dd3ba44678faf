"""README stays short; it and the home page lead to every page; and its app does what it says."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from backplane_testservers import OwnBroker, free_port
from httpx2 import AsyncClient
from websockets.asyncio.client import connect

from tests.project.docs.pages import ROOT
from tests.project.docs.projects import program, write_project

README = (ROOT / "README.md").read_text()
LONGEST = 200
_SHOWN = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)


def test_readme_is_short() -> None:
    assert len(README.splitlines()) < LONGEST


def test_readme_links_to_every_page() -> None:
    """A page that shows a file of the repository is linked by that file, which GitHub can show."""
    linked = {os.path.normpath(link) for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README)}
    assert all((ROOT / link).exists() for link in linked)
    pages = [page.relative_to(ROOT) for page in sorted((ROOT / "docs").rglob("*.md"))]
    missing = [str(page) for page in pages if not linked & {str(page), *_SHOWN.findall((ROOT / page).read_text())}]
    assert not missing


def test_the_home_page_links_to_every_page() -> None:
    docs = ROOT / "docs"
    home = docs / "index.md"
    missing = {str(page.relative_to(docs)) for page in docs.rglob("*.md") if page != home}
    assert not missing - set(re.findall(r"\]\(([^)#:]+)\)", home.read_text()))


async def test_an_event_that_one_process_of_readmes_app_takes_reaches_a_socket_of_another(
    tmp_path: Path, redis_server: OwnBroker
) -> None:
    project = write_project("README.md", tmp_path)
    here, there = free_port(), free_port()
    command = ("-m", "uvicorn", "app:app", "--ws", "backplane_asgi.uvicorn:PreparedProtocol", "--port")
    env = {"BACKPLANE_URL": redis_server.url}
    async with (
        program(project, *command, str(here), env=env) as one,
        program(project, *command, str(there), env=env) as other,
    ):
        await one.says("Uvicorn running")
        await other.says("Uvicorn running")
        async with (
            connect(f"ws://127.0.0.1:{there}/users/ann/events", proxy=None) as websocket,
            AsyncClient(trust_env=False) as client,
        ):
            done = await client.post(f"http://127.0.0.1:{here}/users/ann/jobs/j7/done")
            assert done.status_code == 200
            async with asyncio.timeout(20):
                assert await websocket.recv() == '{"kind":"job_done","job":"j7"}'

"""The tutorial does what it says, in the order in which a reader does it."""

from __future__ import annotations

from pathlib import Path

import pytest
from backplane_testservers import OwnBroker

from tests.project.docs.projects import program, write_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project("docs/tutorial.md", tmp_path)


async def test_one_process_prints_what_the_page_shows(project: Path) -> None:
    async with program(project, "-W", "error", "hello.py") as hello:
        assert await hello.ends() == "laptop got {'kind': 'hello'}\n"


async def test_two_pods_hear_the_sender_and_tell_of_a_restarted_broker(project: Path, broker: OwnBroker) -> None:
    async def send(text: str) -> None:
        async with program(project, "send.py", broker.url, "ann", text) as sender:
            await sender.ends()

    pod = ("pod.py", broker.url, "ann")
    async with program(project, *pod) as one, program(project, *pod) as other:
        for it in (one, other):
            await it.says("connected")
        await send("hi")
        for it in (one, other):
            assert await it.says("hi") == '{"kind":"chat","text":"hi"}\n'
        broker.restart()
        for it in (one, other):
            await it.says("reload: ")
        await send("again")
        for it in (one, other):
            await it.says('"text":"again"')
            assert [line.partition(":")[0] for line in it.said].count("reload") == 1

"""The workers of the page on them: what they published arrives, however the process ends."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from backplane_core import Target, connect
from backplane_testservers import OwnBroker

from tests.project.docs.projects import program, write_project
from tests.project.docs.test_workers import next_job

JOBS = sorted(f"j{number}" for number in range(20))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project("docs/how-to/job-workers.md", tmp_path)


@pytest.fixture
async def ann(broker: OwnBroker) -> AsyncIterator[Any]:
    async with connect(broker.url) as backplane, backplane.connection(None, Target.user("ann")) as connection:
        yield connection


async def test_a_job_of_rq(project: Path, ann: Any, broker: OwnBroker, redis_server: OwnBroker) -> None:
    env = {"BACKPLANE_URL": broker.url, "RQ_REDIS_URL": redis_server.url}
    async with program(project, "enqueue.py", env=env) as sender:
        await sender.ends()
    worker = ("-W", "ignore", "-m", "rq.cli", "worker", "--burst", "--url", redis_server.url)
    async with program(project, *worker, env=env) as rq:
        assert "Traceback" not in await rq.ends()
    assert await next_job(ann) == "j7"


@pytest.mark.parametrize("name", ["pool.py", "greenlets.py", "eventlets.py"])
async def test_children_of_a_pool_and_greenlets(project: Path, ann: Any, broker: OwnBroker, name: str) -> None:
    # eventlet says at its import that its authors want it to be left.
    options = ("-W", "ignore") if name == "eventlets.py" else ()
    async with program(project, *options, name, env={"BACKPLANE_URL": broker.url}) as running:
        assert not await running.ends()
    assert sorted([await next_job(ann) for _ in JOBS]) == JOBS


async def test_a_script_that_is_stopped(project: Path, ann: Any, broker: OwnBroker) -> None:
    async with program(project, "script.py", env={"BACKPLANE_URL": broker.url}) as running:
        await running.says("published")
        running.process.send_signal(signal.SIGTERM)
        assert await running.process.wait() == 143
    assert sorted([await next_job(ann) for _ in JOBS]) == JOBS

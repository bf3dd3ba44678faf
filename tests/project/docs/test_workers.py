"""Celery's tasks and Django's views, as their pages have them, tell every socket: none is lost on the way out."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from backplane_core import Target, connect
from backplane_testservers import OwnBroker

from tests.project.docs.projects import DEADLINE_S, program, write_project

TASKS = 40

SEND = """
from tasks import render

for number in range({tasks}):
    render.delay("ann", f"j{{number}}")
"""

DJANGO = """
import django
from django.conf import settings

settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})
django.setup()

from django.db import transaction
from django.test import RequestFactory

import jobs

request = RequestFactory().post("/jobs")
try:
    with transaction.atomic():
        jobs.finish(request, "ann", "rolled back")
        raise KeyError
except KeyError:
    pass
assert jobs.finish(request, "ann", "committed").status_code == 204
"""


async def next_job(connection: Any) -> str:
    async with asyncio.timeout(DEADLINE_S):
        event = await anext(connection)
    return str(event.value["job"])


async def send_tasks(project: Path, env: Mapping[str, str]) -> None:
    async with program(project, "send.py", env=env) as sender:
        await sender.ends()


async def test_what_preforked_children_published_arrives_though_the_worker_stops_at_once(
    tmp_path: Path, redis_server: OwnBroker
) -> None:
    project = write_project("docs/how-to/celery.md", tmp_path)
    (project / "send.py").write_text(SEND.format(tasks=TASKS))
    env = {"CELERY_BROKER_URL": redis_server.url, "BACKPLANE_URL": redis_server.url, "C_FORCE_ROOT": "1"}
    worker = ("-m", "celery", "-A", "tasks", "worker", "--pool", "prefork", "-c", "2", "--loglevel", "INFO")
    async with connect(redis_server.url) as backplane, backplane.connection(None, Target.user("ann")) as connection:
        await send_tasks(project, env)
        async with program(project, *worker, env=env) as celery:
            for _ in range(TASKS):
                await celery.says("succeeded in")
            celery.process.send_signal(signal.SIGTERM)
            assert "Traceback" not in await celery.ends()
        got = [await next_job(connection) for _ in range(TASKS)]
    assert sorted(got) == sorted(f"j{number}" for number in range(TASKS))


async def test_what_a_child_could_not_send_is_told_when_it_ends(
    tmp_path: Path, redis_server: OwnBroker, nats_server: OwnBroker
) -> None:
    project = write_project("docs/how-to/celery.md", tmp_path)
    (project / "send.py").write_text(SEND.format(tasks=1))
    env = {"CELERY_BROKER_URL": redis_server.url, "BACKPLANE_URL": nats_server.url, "C_FORCE_ROOT": "1"}
    worker = ("-m", "celery", "-A", "tasks", "worker", "--pool", "prefork", "-c", "1", "--loglevel", "INFO")
    async with (
        connect(nats_server.url) as backplane,
        backplane.connection(None, Target.user("ann")) as connection,
        program(project, *worker, env=env) as celery,
    ):
        await send_tasks(project, env)
        await next_job(connection)  # so the child is connected
        nats_server.kill()
        await celery.says("the link is lost")
        await send_tasks(project, env)
        await celery.says("succeeded in")
        celery.process.send_signal(signal.SIGTERM)
        assert "closing: " in await celery.ends()


async def test_a_view_tells_of_what_was_committed_alone(tmp_path: Path, broker: OwnBroker) -> None:
    project = write_project("docs/how-to/flask-and-django.md", tmp_path)
    (project / "site_of_it.py").write_text(DJANGO)
    async with connect(broker.url) as backplane, backplane.connection(None, Target.user("ann")) as connection:
        async with program(project, "site_of_it.py", env={"BACKPLANE_URL": broker.url}) as django:
            assert not await django.ends()
        assert await next_job(connection) == "committed"


@pytest.mark.parametrize(("page", "name"), [("celery", "tasks.py"), ("flask-and-django", "jobs.py")])
def test_the_page_has_this_file(tmp_path: Path, page: str, name: str) -> None:
    assert (write_project(f"docs/how-to/{page}.md", tmp_path) / name).exists()

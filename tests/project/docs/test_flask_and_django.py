"""The sites of the page on Flask and Django: a view of one process reaches the sockets of another, by their session."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from backplane_core import Publisher, Target
from backplane_testservers import OwnBroker, free_port
from httpx2 import AsyncClient
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.project.docs.projects import program, write_project

PAGE = "docs/how-to/flask-and-django.md"
DEADLINE_S = 20

UWSGI = "import sys, pyuwsgi; pyuwsgi.run(sys.argv[1:])"
SERVERS = {
    "flask": (("-m", "flask", "--app", "app", "run", "--port", "{port}"), "Running on"),
    "uwsgi": (
        (
            *("-c", UWSGI, "--http-socket", "127.0.0.1:{port}", "--master", "--processes", "2", "--enable-threads"),
            *("--die-on-term", "--no-orphans", "--need-app", "--venv", sys.prefix, "--module", "app:app"),
        ),
        "spawned uWSGI worker 2",
    ),
}

SETTINGS = """
SECRET_KEY = "a secret of the test"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
"""

LOG_IN = """
import django

django.setup()

from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

call_command("migrate", verbosity=0)
user = User.objects.create_user("ann")
client = Client()
client.force_login(user)
print(client.cookies["sessionid"].value, user.pk)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(PAGE, tmp_path)


@asynccontextmanager
async def sockets(project: Path, env: dict[str, str]) -> AsyncGenerator[str]:
    """Run the app for sockets; yield its URL."""
    port = free_port()
    command = ("-m", "uvicorn", "sockets:app", "--ws", "backplane_asgi.uvicorn:PreparedProtocol", "--port", str(port))
    async with program(project, *command, env=env) as uvicorn:
        await uvicorn.says("Uvicorn running")
        yield f"ws://127.0.0.1:{port}/events"


async def is_refused(url: str, cookie: str) -> bool:
    async with (
        asyncio.timeout(DEADLINE_S),
        connect(url, proxy=None, additional_headers={"Cookie": cookie}) as websocket,
    ):
        with pytest.raises(ConnectionClosed) as end:
            await websocket.recv()
    return end.value.rcvd is not None and end.value.rcvd.code == 4401


@pytest.mark.parametrize("name", SERVERS)
async def test_a_view_of_flask_reaches_the_sockets_of_who_logged_in(
    project: Path, redis_server: OwnBroker, name: str
) -> None:
    if name == "uwsgi" and sys.version_info >= (3, 14):
        pytest.skip("pyuwsgi has no wheel for it")
    command, ready = SERVERS[name]
    port = free_port()
    env = {"BACKPLANE_URL": redis_server.url, "SECRET_KEY": "a secret of the test"}
    async with (
        sockets(project, env) as url,
        program(project, *[part.format(port=port) for part in command], env=env) as flask,
    ):
        await flask.says(ready)
        # uWSGI closes each connection without saying so: a client that used it again could be too late.
        headers = {"Connection": "close"}
        async with AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            assert (await client.post("/jobs/j7/done")).status_code == 401
            assert (await client.post("/login/ann")).status_code == 204
            cookie = f"session={client.cookies['session']}"
            async with connect(url, proxy=None, additional_headers={"Cookie": cookie}) as websocket:
                assert (await client.post("/jobs/j7/done")).status_code == 204
                async with asyncio.timeout(DEADLINE_S):
                    assert await websocket.recv() == '{"kind":"job_done","job":"j7"}'
        assert await is_refused(url, f"{cookie}x")
        assert await is_refused(url, "other=1")
        flask.process.send_signal(signal.SIGTERM)  # so the workers end too
        async with asyncio.timeout(DEADLINE_S):
            await flask.process.wait()


async def test_a_session_of_django_opens_the_sockets_of_its_user(project: Path, broker: OwnBroker) -> None:
    (project / "settings.py").write_text(SETTINGS)
    (project / "log_in.py").write_text(LOG_IN)
    app = (project / "sockets.py").read_text()
    (project / "sockets.py").write_text(app.replace("from flask_session", "from django_session"))
    env = {"BACKPLANE_URL": broker.url, "DJANGO_SETTINGS_MODULE": "settings"}
    async with program(project, "log_in.py", env=env) as logged_in:
        session, user = (await logged_in.ends()).split()
    async with sockets(project, env) as url, Publisher(broker.url) as publisher:
        async with connect(url, proxy=None, additional_headers={"Cookie": f"sessionid={session}"}) as websocket:
            await publisher.publish(Target.user(user), "hello")
            async with asyncio.timeout(DEADLINE_S):
                assert await websocket.recv() == '"hello"'
        assert await is_refused(url, "sessionid=made-up")
        assert await is_refused(url, "other=1")

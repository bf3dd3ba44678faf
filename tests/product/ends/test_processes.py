"""A process that ends has sent what its publishers accepted, in each way in which its end can be noticed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from backplane_core import BaseBackplane, connect
from backplane_testservers import Broker, OwnBroker

from tests.product.core.conftest import socket
from tests.support.sockets import Socket
from tests.support.waiting import until, wait_until

__all__ = ["socket"]

# What the functions below run is found in a module, as `spawn` and RQ want it.
WORK = """
import os
from backplane_core import SyncPublisher, Target

publisher = SyncPublisher(os.environ["BACKPLANE_URL"], channel=os.environ["BACKPLANE_CHANNEL"])


def publish(number, count=20):
    for part in range(count):
        publisher.publish(Target.user("u1"), [number, part])
    return number


def publish_and_flush(number):
    publish(number)
    publisher.flush(timeout_s=10)
"""


@pytest.fixture
async def pod(shared_broker: Broker, channel: str) -> AsyncIterator[BaseBackplane]:
    async with connect(shared_broker.url, channel=channel) as pod:
        yield pod


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    return tmp_path


async def run(folder: Path, url: str, channel: str, *command: str, ends_with: int = 0) -> str:
    """Run a program in the folder, and return what it wrote."""

    def wait() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "BACKPLANE_URL": url, "BACKPLANE_CHANNEL": channel, "PYTHONPATH": str(folder)},
            timeout=90,
            check=False,
            capture_output=True,
            text=True,
        )

    done = await asyncio.to_thread(wait)
    assert done.returncode == ends_with, done.stdout + done.stderr
    return done.stdout + done.stderr


async def run_script(folder: Path, url: str, channel: str, script: str, *arguments: str, ends_with: int = 0) -> str:
    (folder / "script.py").write_text(textwrap.dedent(script))
    command = (sys.executable, "-W", "ignore", "script.py", *arguments)
    return await run(folder, url, channel, *command, ends_with=ends_with)


async def arrived(socket: Socket, processes: int, count: int = 20) -> None:
    await until(lambda: len(socket.stream) >= processes * count, f"{processes} x {count} events")
    for number in range(processes):
        assert [part for who, part in socket.stream if who == number] == list(range(count))
    assert len(socket.stream) == processes * count


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
async def test_children_of_multiprocessing(
    folder: Path, shared_broker: Broker, channel: str, socket: Socket, method: str
) -> None:
    script = """
        import multiprocessing, sys
        import work

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            if sys.argv[1] == "fork":
                work.publish(0)  # the parent has a thread and a connection already
            children = [context.Process(target=work.publish, args=(number,)) for number in range(1, 7)]
            for child in children:
                child.start()
            for child in children:
                child.join()
            assert [child.exitcode for child in children] == [0] * 6
            if sys.argv[1] != "fork":
                work.publish(0)
    """
    await run_script(folder, shared_broker.url, channel, script, method)
    await arrived(socket, 7)


@pytest.mark.parametrize("pool", ["ProcessPoolExecutor", "Pool"])
async def test_workers_of_a_pool(folder: Path, shared_broker: Broker, channel: str, socket: Socket, pool: str) -> None:
    script = """
        import sys
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import Pool
        import work

        if __name__ == "__main__":
            if sys.argv[1] == "Pool":
                pool = Pool(3)
                assert pool.map(work.publish, range(12)) == list(range(12))
                pool.close()
                pool.join()
            else:
                with ProcessPoolExecutor(3) as pool:
                    assert list(pool.map(work.publish, range(12))) == list(range(12))
    """
    await run_script(folder, shared_broker.url, channel, script, pool)
    await arrived(socket, 12)


async def test_a_script_that_turns_sigterm_into_an_exit(
    folder: Path, shared_broker: Broker, channel: str, socket: Socket
) -> None:
    script = """
        import os, signal, sys
        import work

        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        work.publish(0, 500)
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    """
    await run_script(folder, shared_broker.url, channel, script, ends_with=143)
    await arrived(socket, 1, 500)


async def test_a_work_horse_of_rq_that_flushes(
    folder: Path, shared_broker: Broker, channel: str, socket: Socket, redis_server: OwnBroker
) -> None:
    script = """
        import sys
        from redis import Redis
        from rq import Queue
        import work

        queue = Queue(connection=Redis.from_url(sys.argv[1]))
        for number in range(5):
            queue.enqueue(work.publish_and_flush, number)
    """
    await run_script(folder, shared_broker.url, channel, script, redis_server.url)
    worker = (sys.executable, "-W", "ignore", "-m", "rq.cli", "worker", "--burst", "--url", redis_server.url)
    output = await run(folder, shared_broker.url, channel, *worker)
    assert "Traceback" not in output, output
    await arrived(socket, 5)


LEFT_OPEN = """
    import asyncio, logging, os, sys
    from backplane_core import Target, connect

    logging.basicConfig(level="WARNING")

    async def main():
        backplane = await connect(os.environ["BACKPLANE_URL"], channel=os.environ["BACKPLANE_CHANNEL"])
        for part in range(20):
            await backplane.publish(Target.user("u1"), [0, part])
        if sys.argv[1] == "flushes":
            await backplane.flush(timeout_s=10)
        return backplane

    backplane = asyncio.run(main())
    print(backplane.state)
    if sys.argv[1] != "flushes":
        stats = backplane.stats()
        print(stats.published, stats.sent >= 20 or stats.dropped, stats.outbox_messages)
"""


async def test_a_loop_that_ends_under_an_open_backplane_closes_it_quietly(
    folder: Path, shared_broker: Broker, channel: str, socket: Socket
) -> None:
    output = await run_script(folder, shared_broker.url, channel, LEFT_OPEN, "flushes")
    assert output == "closed\n"
    await arrived(socket, 1)


async def test_what_such_a_backplane_had_not_sent_is_counted(folder: Path, shared_broker: Broker, channel: str) -> None:
    output = await run_script(folder, shared_broker.url, channel, LEFT_OPEN, "does not")
    lines = sorted(output.splitlines())
    sent = ["20 True 0", "closed"]  # it got out after all
    counted = ["20 {'closed': 20} 0", f"WARNING:backplane:20 events for other pods were dropped (closed) on {channel}"]
    assert lines in (sent, [*counted, "closed"])


UWSGI = """
from backplane_core import ConfigurationError, SyncPublisher, Target

publisher = SyncPublisher({url!r}, channel={channel!r})  # in the master, before it forks


def application(environ, start_response):
    try:
        publisher.publish(Target.user("u1"), [0, int(environ["PATH_INFO"].strip("/"))])
    except ConfigurationError as error:
        start_response("500 Internal Server Error", [])
        return [str(error).encode()]
    start_response("200 OK", [])
    return [b""]
"""


@contextmanager
def uwsgi(folder: Path, *options: str) -> Generator[str]:
    """Run one with two workers; return its URL."""
    log = folder / "uwsgi.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", "import sys, pyuwsgi; pyuwsgi.run(sys.argv[1:])"),
                *("--http-socket", "127.0.0.1:0", "--master", "--processes", "2", "--need-app", "--die-on-term"),
                *("--wsgi-file", str(folder / "site_of_it.py"), "--venv", sys.prefix, *options),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "spawned uWSGI worker 2" in log.read_text() or process.poll() is not None, log.read_text)
        assert process.poll() is None, log.read_text()
        address = next(line for line in log.read_text().splitlines() if "bound to TCP address" in line)
        yield f"http://{address.split('TCP address ')[1].split()[0]}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(30) == 0, log.read_text()
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"it does not end:\n{log.read_text()}")


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="pyuwsgi has no wheel for it")
async def test_workers_of_uwsgi(folder: Path, shared_broker: Broker, channel: str, socket: Socket) -> None:
    (folder / "site_of_it.py").write_text(UWSGI.format(url=shared_broker.url, channel=channel))

    def ask() -> None:
        with uwsgi(folder, "--enable-threads") as url:
            for number in range(30):
                assert get(f"{url}/{number}") == (200, "")

    await asyncio.to_thread(ask)
    await until(lambda: len(socket.stream) == 30, "30 events")
    assert sorted(part for _, part in socket.stream) == list(range(30))


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="pyuwsgi has no wheel for it")
async def test_uwsgi_without_threads_is_an_error_that_says_so(
    folder: Path, shared_broker: Broker, channel: str
) -> None:
    (folder / "site_of_it.py").write_text(UWSGI.format(url=shared_broker.url, channel=channel))

    def ask() -> None:
        with uwsgi(folder) as url:
            status, text = get(f"{url}/1")
            assert status == 500
            assert "--enable-threads" in text

    await asyncio.to_thread(ask)


CELERY = """
import os
from backplane_core import SyncPublisher, Target
from celery import Celery
from celery.signals import worker_process_shutdown, worker_shutdown

app = Celery("work_of_celery", broker=os.environ["CELERY_BROKER_URL"])
app.conf.task_ignore_result = True
first, second = [
    SyncPublisher(os.environ["BACKPLANE_URL"], channel=os.environ["BACKPLANE_CHANNEL"]) for _ in range(2)
]


@app.task
def publish(number):
    import asyncio

    for part in range(20):
        (second if number % 2 else first).publish(Target.user("u1"), [number, part])
    assert asyncio._get_running_loop() is None  # no greenlet sees the publishers' loop


@worker_process_shutdown.connect  # of prefork's children
@worker_shutdown.connect  # of a worker that has none
def close(**_):
    first.close()
    second.close()
"""


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "eventlet"])
async def test_tasks_of_celery(  # noqa: PLR0917 -- fixtures
    folder: Path, shared_broker: Broker, channel: str, socket: Socket, redis_server: OwnBroker, pool: str
) -> None:
    (folder / "work_of_celery.py").write_text(CELERY)
    environment = {**os.environ, "BACKPLANE_URL": shared_broker.url, "BACKPLANE_CHANNEL": channel}
    environment |= {"CELERY_BROKER_URL": redis_server.url, "PYTHONPATH": str(folder)}
    script = "import work_of_celery as work\nfor number in range(10):\n    work.publish.delay(number)\n"
    log_path = folder / "celery.log"
    with log_path.open("w") as log:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "ignore", "-m", "celery", "-A", "work_of_celery", "worker", "-P", pool, "-c", "4"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"),
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        asking = await asyncio.create_subprocess_exec(sys.executable, "-c", script, cwd=folder, env=environment)
        assert await asking.wait() == 0
        await until(lambda: len(socket.stream) >= 200 or worker.returncode is not None, "10 x 20 events")
    finally:
        if worker.returncode is None:
            worker.terminate()
        await asyncio.wait_for(worker.wait(), 60)
    await arrived(socket, 10)
    text = log_path.read_text()
    assert "raised unexpected" not in text, text
    if pool != "eventlet":  # which complains by itself of what Celery's command has imported before it
        assert "Traceback" not in text, text

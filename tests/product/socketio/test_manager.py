"""Servers in threads and greenlets share their clients as those in event loops do, and with them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import socketio  # type: ignore[import-untyped]
from backplane_socketio import AsyncBackplaneManager, BackplaneManager
from backplane_testservers import Broker
from socketio.packet import Packet  # type: ignore[import-untyped]

from tests.product.socketio.servers import sites, talking
from tests.support.waiting import DEADLINE_S, wait_until

Make = Callable[..., BackplaneManager]
ROOT = Path(__file__).parents[3]


@pytest.fixture
def make_sync(shared_broker: Broker, routing: str, channel: str) -> Make:
    def make(**options: Any) -> BackplaneManager:
        return BackplaneManager(shared_broker.url, channel, by_room=routing == "interest", **options)

    return make


class Listener:
    """A server without a port, with a client whose packets it would send."""

    def __init__(self, manager: BackplaneManager) -> None:
        self.manager = manager
        self.server: Any = socketio.Server(async_mode="threading", client_manager=manager)
        self.sent: list[tuple[str, list[Any]]] = []
        self.server._send_eio_packet = self._keep
        self.server._send_packet = self._call
        self.server._trigger_event = self._ignore

    def _ignore(self, *_: Any) -> None:
        """There is no handler."""

    def _keep(self, eio_sid: str, packet: Any) -> None:
        decoded: Any = Packet(encoded_packet=packet.data)
        self.sent.append((eio_sid, decoded.data))

    def _call(self, eio_sid: str, packet: Any) -> None:
        self.sent.append((eio_sid, packet.data))
        if packet.id is not None:
            self.server._handle_ack(eio_sid, packet.namespace, packet.id, [f"{packet.data[0]} taken"])

    def client(self, eio_sid: str, *rooms: Any) -> str:
        sid = self.manager.connect(eio_sid, "/") or ""
        for room in rooms:
            self.manager.enter_room(sid, "/", room)
        return sid

    def has(self, *sent: tuple[str, list[Any]]) -> None:
        wait_until(lambda: len(self.sent) >= len(sent), lambda: f"{sent}, but {self.sent}")
        assert self.sent == list(sent)
        self.sent.clear()


@contextmanager
def listening(*managers: BackplaneManager) -> Generator[list[Listener]]:
    listeners = [Listener(manager) for manager in managers]
    for manager in managers:
        manager.open(timeout_s=DEADLINE_S)
    try:
        yield listeners
    finally:
        for manager in managers:
            manager.close()
            thread: Any = getattr(manager, "thread", None)
            if thread is not None:
                thread.join(DEADLINE_S)
                assert not thread.is_alive()


def test_an_emit_reaches_the_clients_of_all_servers_once_and_in_order(make_sync: Make) -> None:
    with listening(make_sync(), make_sync()) as (here, there):
        here.client("near", "a")
        far = there.client("far", "a")
        for number in range(50):
            here.server.emit("said", number)
        here.server.emit("said", "room", room="a")
        here.server.emit("said", "one", to=far)
        for listener, eio_sid, more in ((here, "near", []), (there, "far", [("far", ["said", "one"])])):
            expected = [(eio_sid, ["said", number]) for number in range(50)]
            listener.has(*expected, (eio_sid, ["said", "room"]), *more)


def test_a_call_to_a_client_of_another_server_gets_its_answer(make_sync: Make) -> None:
    with listening(make_sync(), make_sync()) as (here, there):
        far = there.client("far")
        assert here.server.call("said", "?", to=far, timeout=DEADLINE_S) == "said taken"


def test_a_client_of_another_server_that_enters_a_room_gets_what_is_emitted_there_right_away(make_sync: Make) -> None:
    with listening(make_sync(), make_sync()) as (here, there):
        far = there.client("far")
        for number in range(20):
            here.server.enter_room(far, f"room {number}")
            here.server.emit("said", number, room=f"room {number}")
        there.has(*[("far", ["said", number]) for number in range(20)])
        here.server.leave_room(far, "room 1")
        here.server.emit("said", "left", room="room 1")
        here.server.emit("said", "end", room="room 2")
        there.has(("far", ["said", "end"]))


def test_rooms_that_threads_enter_and_leave_at_once_are_heard_as_they_are_in_the_end(make_sync: Make) -> None:
    with listening(make_sync(), make_sync()) as (here, there):
        sids = [there.client(f"far {number}") for number in range(8)]

        def change(sid: str) -> None:
            for _ in range(40):
                there.manager.enter_room(sid, "/", "a")
                there.manager.leave_room(sid, "/", "a")
            there.manager.enter_room(sid, "/", "a")

        threads = [threading.Thread(target=change, args=(sid,)) for sid in sids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        here.server.emit("said", 1, room="a")
        wait_until(lambda: len(there.sent) >= len(sids), lambda: f"{there.sent}")
        assert sorted(there.sent) == [(f"far {number}", ["said", 1]) for number in range(8)]


def test_who_is_in_a_room_is_known_over_all_servers(make_sync: Make) -> None:
    with listening(make_sync(), make_sync()) as (here, there):
        near, far = here.client("near", "a"), there.client("far", "a", "b")
        found = here.manager.participants("a", timeout_s=DEADLINE_S)
        assert found.sids == {near, far}
        assert found.complete
        assert here.manager.participants("b", timeout_s=DEADLINE_S).sids == {far}


def test_a_process_without_a_server_emits_from_as_many_threads_as_there_are(make_sync: Make) -> None:
    writer = make_sync(write_only=True)
    with listening(make_sync()) as (there,):
        there.client("far", "a")

        def work(number: int) -> None:
            for each in range(20):
                writer.emit("said", [number, each], room="a")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(there.sent) >= 200, lambda: f"{len(there.sent)} of 200")
        for number in range(10):
            assert [it[1][1][1] for it in there.sent if it[1][1][0] == number] == list(range(20))
    writer.close()


async def test_servers_in_threads_and_in_event_loops_are_one_fleet(
    make: Callable[..., AsyncBackplaneManager], make_sync: Make
) -> None:
    async with sites(make()) as (site,), talking(site, room="a") as chatter:

        def work() -> None:
            with listening(make_sync()) as (here,):
                near = here.client("near", "a")
                here.server.emit("said", "from a thread", room="a")
                assert here.server.call("said", "?", to=chatter.sid, timeout=DEADLINE_S) == "said taken"
                assert here.manager.participants("a", timeout_s=DEADLINE_S).sids == {near, chatter.sid}

        await asyncio.to_thread(work)
        await chatter.has(("said", "from a thread"), ("said", "?"))


GREEN = """
import sys
mode, url, channel, by_room = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] == "interest"
if mode == "gevent":
    from gevent import monkey
    monkey.patch_all()
else:
    import eventlet
    eventlet.monkey_patch()
import time
from tests.product.socketio.test_manager import BackplaneManager, Listener, listening

managers = [BackplaneManager(url, channel, by_room=by_room) for _ in range(2)]
here, there = [Listener(manager) for manager in managers]
for listener in (here, there):
    listener.server.eio.start_background_task  # the threads of Python, which are greenlets here
    listener.manager.open(timeout_s=30)
far = there.client("far", "a")
for number in range(100):
    here.server.emit("said", number, room="a")
there.has(*[("far", ["said", number]) for number in range(100)])
assert here.server.call("said", "?", to=far, timeout=30) == "said taken"
assert here.manager.participants("a", timeout_s=30).sids == {far}
for manager in managers:
    manager.close()
print("done")
"""


@pytest.mark.parametrize("mode", ["gevent", "eventlet"])
def test_it_works_where_threads_are_greenlets(mode: str, shared_broker: Broker, routing: str, channel: str) -> None:
    pytest.importorskip(mode)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GREEN, mode, shared_broker.url, channel, routing],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-3000:]

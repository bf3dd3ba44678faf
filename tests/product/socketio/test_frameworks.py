"""What is built on python-socketio goes on to work: Flask-SocketIO, and the Admin UI."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import flask
import flask_socketio  # type: ignore[import-untyped]
import socketio  # type: ignore[import-untyped]
from backplane_socketio import AsyncBackplaneManager, BackplaneManager
from backplane_testservers import Broker
from werkzeug.serving import make_server

from tests.product.socketio.servers import sites, talking
from tests.product.socketio.test_manager import listening
from tests.support.waiting import DEADLINE_S, until, wait_until


def test_flask_socketio_takes_the_manager_and_a_worker_emits_to_its_clients(
    shared_broker: Broker, channel: str
) -> None:
    app = flask.Flask(__name__)
    manager = BackplaneManager(shared_broker.url, channel)
    server: Any = flask_socketio.SocketIO(app, client_manager=manager, async_mode="threading")

    def join(data: Any) -> None:
        handler: Any = flask_socketio
        handler.join_room(data["room"])
        handler.emit("said", "joined")

    server.on_event("join", join)
    worker: Any = flask_socketio.SocketIO(async_mode="threading")
    worker.init_app(None, client_manager=BackplaneManager(shared_broker.url, channel, write_only=True))
    web = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=web.serve_forever, daemon=True)
    serving.start()
    client: Any = socketio.Client(reconnection=False)
    got: list[Any] = []
    client.on("said", got.append)
    manager.open(timeout_s=DEADLINE_S)
    try:
        client.connect(f"http://127.0.0.1:{web.server_port}", transports=["polling"], wait_timeout=int(DEADLINE_S))
        client.emit("join", {"room": "a"})
        wait_until(lambda: got == ["joined"], lambda: f"{got}")
        worker.emit("said", 1, to="a")
        worker.emit("said", 2, to="b")
        worker.emit("said", 3, to="a")
        wait_until(lambda: got == ["joined", 1, 3], lambda: f"{got}")
        with listening(BackplaneManager(shared_broker.url, channel)) as (other,):
            other.server.emit("said", "from another server", to="a")
            wait_until(lambda: got[3:] == ["from another server"], lambda: f"{got}")
        client.disconnect()
        client.wait()
    finally:
        manager.close()
        server.server.shutdown()
        web.shutdown()
        serving.join()
        web.server_close()


async def test_the_admin_ui_sees_rooms_and_emits_and_nothing_is_broken_by_it(
    make: Callable[..., AsyncBackplaneManager],
) -> None:
    async with sites(make(), make()) as (here, there):
        admin = there.server.instrument(auth=False, mode="development")
        try:
            async with (
                talking(there, "room_joined", "event_sent", "all_sockets", "server_stats", namespace="/admin") as ui,
                talking(there, room="a") as far,
            ):
                await here.server.emit("said", 1, room="a")
                await far.has(("said", 1))
                await until(
                    lambda: any(event[0] == "room_joined" and event[2] == "a" for event in ui.got), "a joined room"
                )
                await there.server.emit("said", 2, room="a")
                await far.has(("said", 2))
                await until(lambda: any(event[0] == "event_sent" for event in ui.got), "an event that was sent")
                await there.server.leave_room(far.sid, "a")
                await here.server.emit("said", 3, room="a")
                await here.server.emit("said", "end")
                await far.has(("said", "end"))
        finally:
            await admin.shutdown()
            admin.uninstrument()

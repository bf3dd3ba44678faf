"""The client manager of a `socketio.Server`, and of Flask-SocketIO: `BackplaneManager`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from backplane_core import BackplaneError, ClosedError, Event, EventEncodeError, Gap, SyncConnection, Target

from backplane_socketio._addressing import ALL, room_target
from backplane_socketio._backlog import discard, far_behind
from backplane_socketio._bridge import OLD_NOT_HANDLED, Bridge
from backplane_socketio._framework import PubSubManager
from backplane_socketio._gaps import NOT_REPORTED
from backplane_socketio._hearing import MAX_PENDING, MAX_PENDING_BYTES, RETRY_S, START_S
from backplane_socketio._manager import CommonManager
from backplane_socketio._steps import Handle, Notify, Publish
from backplane_socketio.participants import Participants

__all__ = ["BackplaneManager"]


class Ended(BaseException):
    """The process ends. No `Exception`, since the loop of python-socketio would log it and go on."""


class BackplaneManager(CommonManager[SyncConnection, Bridge], PubSubManager):
    """Shares the clients of several `socketio.Server`s over a broker, in place of `socketio.RedisManager`.

        manager = BackplaneManager("redis://localhost:6379")
        server = socketio.Server(client_manager=manager)
        socketio = flask_socketio.SocketIO(app, client_manager=manager)

    For servers in threads, and in the greenlets of gevent and eventlet. A server starts and serves its own clients also
    while its broker is away. What other servers send meanwhile is missing, and that is reported as a gap. With
    `write_only` it emits from any process without a server, and from any thread, over one connection for each process.

    Args:
        url: The broker's, as `backplane_core.connect` takes it.
        channel: The fleet's name: the same in all servers.
        write_only: Whether it only emits, and hears nothing.
        logger: Used in place of the server's.
        json: A JSON module for a manager without a server; with one, the server's is used.
        by_room: Whether a server hears only the rooms of its own clients, and not all that is emitted anywhere: for
            many servers with many rooms. Entering a room then waits for the broker. The same in all servers.
        on_gap: Called with each gap: messages of other servers may be missing.
        gap_event: The name of an event that all clients of this server get at a gap, with a dict of `since`, `until`
            and `missed`, so that they can reload.
        max_backlog: How many packets may wait for one client; one for which more wait is disconnected. By default
            None, without bound.
        bridge: The URL of the Redis of servers with `AsyncRedisManager` or `RedisManager` on the same channel, which
            then hear this one, and are heard.
        options: Further options of the backplane, such as `signing_keys`.

    Raises:
        AdapterNotInstalledError: No installed adapter serves the URL's scheme; says what to `pip install`.
        ConfigurationError: An argument is wrong.
    """

    _attached: threading.Event | None = None
    """Set once this server hears the others; None before it has begun to."""
    _first_client_at: float | None = None
    _closed = False

    def _make_bridge(self, url: str, channel: str) -> Bridge:
        return Bridge(url, channel)

    def initialize(self) -> None:
        """Start to hear the other servers; the server calls it when its first client comes."""
        if not self.write_only:
            self._attached = threading.Event()
        super().initialize()

    def open(self, *, timeout_s: float = 5.0) -> None:
        """Hear the other servers from now on, before the first client comes; for the start-up of an app.

        Args:
            timeout_s: Seconds to wait until it does.

        Raises:
            TimeoutError: The broker could not be reached in time. The server goes on to try.
            RuntimeError: There is no server, or it only emits.
        """
        self._begin()
        deadline = time.monotonic() + timeout_s
        if self._attached is None or not self._attached.wait(timeout_s) or self._hearing is None:
            raise TimeoutError("the server does not hear others yet")
        self._hearing.wait_for_state("live", timeout_s=max(0.001, deadline - time.monotonic()))

    def close(self, *, drain_s: float = 5.0) -> None:
        """Hear nothing from now on, and return once what was emitted is sent; for the shutdown of an app.

        What is emitted later still reaches the other servers. The end of the process does the same.

        Args:
            drain_s: Seconds for which it may go on sending.
        """
        connection, self._hearing = self._hearing, None
        self._closed = True
        if connection is not None:
            connection.close()
        if self._bridge is not None:
            self._bridge.close()
        try:
            self._publisher.flush(timeout_s=drain_s)
        except TimeoutError as error:
            self._log_not_sent(error)

    def participants(self, room: object = None, namespace: str = "/", *, timeout_s: float = 1.0) -> Participants:
        """Return the clients of a room, on all servers.

        Args:
            room: The room; None: all clients of the namespace.
            namespace: The namespace.
            timeout_s: Seconds to wait for the other servers.

        Raises:
            RuntimeError: There is no server, or it only emits, or it has not begun to hear the others.
            ClosedError: The backplane is closed.
        """
        fleet = self._hearing_to_ask().fleet
        deadline = time.monotonic() + timeout_s
        survey, answered = self._survey(namespace, room), threading.Event()
        with self._surveys.open(survey, answered):
            survey.asked(fleet.publish(ALL, survey.question, exclude=(self.host_id,), timeout_s=timeout_s))
            while not survey.is_complete and answered.wait(max(0.0, deadline - time.monotonic())):
                answered.clear()
        return survey.result()

    # What python-socketio calls

    def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        """Register a client before its connect handler runs, and return once others reach it here.

        Args:
            eio_sid: The Engine.IO session id.
            namespace: The namespace.

        Returns:
            The client's session id; None: it can't connect.
        """
        self._wait_until_heard()
        return self._reachable(super().pre_connect(eio_sid, namespace), namespace)

    def connect(self, sid: str, namespace: str) -> str | None:
        """Register a client, and return once others reach it here.

        Args:
            sid: The session id, or before python-socketio 5.17 the Engine.IO session id.
            namespace: The namespace.

        Returns:
            The client's session id; None: it can't connect.
        """
        self._wait_until_heard()
        return self._reachable(super().connect(sid, namespace), namespace)

    def enter_room(self, sid: str, namespace: str, room: object, eio_sid: str | None = None) -> None:
        """Add a client to a room; with `by_room` return once others reach it there, if it is a client of this server.

        Args:
            sid: The client's session id.
            namespace: Its namespace.
            room: The room.
            eio_sid: The Engine.IO session id, if it is known.

        Raises:
            TargetDeniedError: The broker does not let this server hear the room.
        """
        super().enter_room(sid, namespace, room, eio_sid=eio_sid)
        self._confirm((room_target(namespace, room),))

    def _publish(self, data: dict[str, Any]) -> None:
        targets = self._targets(data)
        if targets and not self._send(targets, data):  # the server's own JSON module may know what that is
            self._send(targets, self.json.dumps(data))
        if self._bridge is not None:
            self._bridge.publish(data, self.json)

    def _send(self, targets: Sequence[Target], event: object) -> bool:
        """Send an event to other servers; return False if it is not JSON."""
        try:
            self._publisher.publish(targets, event, exclude=(self.host_id,))
        except EventEncodeError:
            return False
        return True

    def _thread(self) -> None:
        with suppress(Ended):
            super()._thread()

    def _listen(self) -> Iterator[dict[str, Any]]:
        """Yield what others send. It ends with the process, or when this manager is closed."""
        while not self._closed:
            try:
                yield from self._hear()
            except ClosedError:
                break
            except BackplaneError as error:  # it is not let in: the loop around this would try again without a pause
                self._log_shut_out(error)
                time.sleep(RETRY_S)
        raise Ended

    def _hear(self) -> Iterator[dict[str, Any]]:
        connection = SyncConnection(
            self._arguments.url,
            ALL,
            conn_id=self.host_id,
            max_pending=MAX_PENDING,
            max_pending_bytes=MAX_PENDING_BYTES,
            overflow="drop_oldest",
            **self._arguments.options,
        )
        with connection:
            try:
                connection.wait_for_state("live", timeout_s=START_S)
            except TimeoutError:
                self._log_no_broker()
            self._hear_over(connection)
            if self._attached is not None:
                self._attached.set()
            try:
                for item in connection.items():
                    if self._is_early(item):
                        continue
                    match self._take(item):
                        case Handle(message):
                            yield message
                        case Publish(message):
                            self._publish(message)
                        case Notify() as notice:
                            self._notify(notice)
                        case None:
                            pass
            finally:
                self._hearing = None

    def _is_early(self, item: Event | Gap) -> bool:
        """Return whether this is a gap that was over before there was anybody who could miss something."""
        return isinstance(item, Gap) and (self._first_client_at is None or item.until <= self._first_client_at)

    def _notify(self, notice: Notify) -> None:
        with self._contained(NOT_REPORTED):
            for namespace in notice.namespaces:
                self.emit(notice.event, notice.data, namespace=namespace, ignore_queue=True)

    def _wait_until_heard(self) -> None:
        """Return once this server hears the others, so that its first clients miss nothing; soon without its broker."""
        if self._first_client_at is None:
            if self._attached is not None:
                self._attached.wait(2 * START_S)
            self._first_client_at = time.time()

    def _reachable(self, sid: str | None, namespace: str) -> str | None:
        """Return a client's id once others reach it here; None: the broker does not let them."""
        if sid is None:
            return None
        try:
            self._confirm((room_target(namespace, None), room_target(namespace, sid)))
        except BackplaneError as error:
            self._refuse(sid, namespace, error)
            return None
        return sid

    def _confirm(self, targets: Sequence[Target]) -> None:
        """Return once the broker has confirmed that this server hears these; at once while it is away."""
        connection = self._hearing
        if connection is not None and self._addressing.by_room:
            for target in targets:
                if self._rooms.holds(target):
                    connection.associate(target)
                    self._unless_left(connection, target)

    def _handle_enter_room(self, message: dict[str, Any]) -> None:
        super()._handle_enter_room(message)
        self._confirm((room_target(message["namespace"], message["room"]),))

    def _handle_emit(self, message: dict[str, Any]) -> None:
        super()._handle_emit(message)
        if self._arguments.max_backlog is not None:
            for socket in far_behind(self, message, self._arguments.max_backlog):
                socket.close(wait=False, abort=True, reason=self.server.eio.reason.TRANSPORT_ERROR)
                discard(socket)

    def _listen_to_old(self) -> None:
        if self._bridge is None:
            return
        handlers = self._old_handlers()
        for data in self._bridge.listen():
            message = self._from_old(data)
            if message is not None and message["method"] in handlers:
                with self._contained(OLD_NOT_HANDLED):
                    handlers[message["method"]](message)

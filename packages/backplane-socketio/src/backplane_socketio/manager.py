"""The client manager of a `socketio.Server`, and of Flask-SocketIO: `BackplaneManager`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from logging import Logger
from typing import Any

from attrs import define, field
from backplane_core import (
    BackplaneError,
    ClosedError,
    ConnectOptions,
    Event,
    EventEncodeError,
    Gap,
    GapCallback,
    Readiness,
    SyncConnection,
    SyncPublisher,
    Target,
)

from backplane_socketio._addressing import ALL, room_target
from backplane_socketio._arguments import check_arguments
from backplane_socketio._backlog import discard, far_behind
from backplane_socketio._bridge import Bridge, is_for_old, is_from_old
from backplane_socketio._framework import PubSubManager
from backplane_socketio._gaps import describe, event_of, warn
from backplane_socketio._hearing import MAX_PENDING, MAX_PENDING_BYTES, RETRY_S, START_S
from backplane_socketio._messages import decode, message_of, new_host_id
from backplane_socketio._rooms import Rooms
from backplane_socketio._survey import ANSWER, QUESTION, Survey, answer_to
from backplane_socketio.json_module import JsonModule
from backplane_socketio.participants import Participants

__all__ = ["BackplaneManager"]


class Ended(BaseException):
    """The process ends. No `Exception`, since the loop of python-socketio would log it and go on."""


@define(eq=False)
class Asked:
    """A question that waits for answers.

    Args:
        survey: What came so far.
        came: Set with each answer.
    """

    survey: Survey
    came: threading.Event = field(factory=threading.Event)


class BackplaneManager(PubSubManager):
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

    name = "backplane"

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        channel: str = "socketio",
        write_only: bool = False,  # noqa: FBT001, FBT002 -- as `RedisManager`, so that only the name changes
        logger: Logger | None = None,
        json: JsonModule | None = None,
        *,
        by_room: bool = False,
        on_gap: GapCallback | None = None,
        gap_event: str | None = None,
        max_backlog: int | None = None,
        bridge: str | None = None,
        options: ConnectOptions | None = None,
    ) -> None:
        super().__init__(channel=channel, write_only=write_only, logger=logger, json=json)
        self._arguments = check_arguments(
            url=url,
            channel=channel,
            by_room=by_room,
            on_gap=on_gap,
            gap_event=gap_event,
            max_backlog=max_backlog,
            bridge=bridge,
            options=options,
        )
        self.host_id = new_host_id()
        self.gaps = 0
        """How many gaps were reported."""
        self.disconnected_slow = 0
        """How many clients were disconnected because too much waited for them."""
        self._process = os.getpid()
        self._addressing = self._arguments.addressing()
        self._rooms = Rooms()
        # What a room holds, and what is heard for it, change together.
        self._changing = threading.RLock()
        self._first_client_at: float | None = None
        self._publisher = SyncPublisher(url, **self._arguments.options)
        self._bridge = None if bridge is None else Bridge(bridge, channel)
        self._connection: SyncConnection | None = None
        self._attached: threading.Event | None = None
        self._asked: dict[str, Asked] = {}
        self._closed = False

    def initialize(self) -> None:
        """Start to hear the other servers; the server calls it when its first client comes."""
        if self._process != os.getpid():  # made before a server forked: each child is another server
            self._process, self.host_id = os.getpid(), new_host_id()
        if not self.write_only:
            self._attached = threading.Event()
        super().initialize()
        if self._bridge is not None and not self.write_only:
            self._bridge_thread = self.server.start_background_task(self._listen_to_old)

    def open(self, *, timeout_s: float = 5.0) -> None:
        """Hear the other servers from now on, before the first client comes; for the start-up of an app.

        Args:
            timeout_s: Seconds to wait until it does.

        Raises:
            TimeoutError: The broker could not be reached in time. The server goes on to try.
            RuntimeError: There is no server, or it only emits.
        """
        if self.server is None or self.write_only:
            raise RuntimeError("only the manager of a server hears others")
        if not self.server.manager_initialized:
            self.server.manager_initialized = True
            self.initialize()
        deadline = time.monotonic() + timeout_s
        if self._attached is None or not self._attached.wait(timeout_s) or self._connection is None:
            raise TimeoutError("the server does not hear others yet")
        self._connection.wait_for_state("live", timeout_s=max(0.001, deadline - time.monotonic()))

    def ready(self) -> Readiness:
        """Return whether this server hears the others, or since when not and why; for a readiness probe."""
        connection = self._connection
        return (
            Readiness(live=False, reason="it has not begun: see open()") if connection is None else connection.ready()
        )

    def close(self, *, drain_s: float = 5.0) -> None:
        """Hear nothing from now on, and return once what was emitted is sent; for the shutdown of an app.

        What is emitted later still reaches the other servers. The end of the process does the same.

        Args:
            drain_s: Seconds for which it may go on sending.
        """
        connection, self._connection = self._connection, None
        self._closed = True
        if connection is not None:
            connection.close()
        if self._bridge is not None:
            self._bridge.close()
        try:
            self._publisher.flush(timeout_s=drain_s)
        except TimeoutError as error:
            self._get_logger().warning("closing: %s", error)

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
        connection = self._connection
        if connection is None:
            raise RuntimeError("only a server that hears the others can ask them: see open()")
        deadline = time.monotonic() + timeout_s
        survey = Survey(self.host_id, namespace, room, self._sids(namespace, room))
        self._asked[survey.id] = asked = Asked(survey)
        try:
            survey.asked(connection.fleet.publish(ALL, survey.question, exclude=(self.host_id,), timeout_s=timeout_s))
            while not survey.is_complete and asked.came.wait(max(0.0, deadline - time.monotonic())):
                asked.came.clear()
        finally:
            del self._asked[survey.id]
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

    def basic_enter_room(self, sid: str, namespace: str, room: object, eio_sid: str | None = None) -> None:
        """Add a client of this server to a room.

        Args:
            sid: The client's session id.
            namespace: Its namespace.
            room: The room.
            eio_sid: The Engine.IO session id, if it is known.
        """
        with self._changing:
            super().basic_enter_room(sid, namespace, room, eio_sid=eio_sid)
            if self._addressing.by_room:
                self._rooms.enter(namespace, room)  # who calls this waits until it is heard: see `_confirm`

    def basic_leave_room(self, sid: str, namespace: str, room: object) -> None:
        """Remove a client of this server from a room.

        Args:
            sid: The client's session id.
            namespace: Its namespace.
            room: The room.
        """
        with self._changing:
            super().basic_leave_room(sid, namespace, room)
            if not self._addressing.by_room or room in self.rooms.get(namespace, {}):
                return
            target = self._rooms.leave(namespace, room)
            if target is not None and self._connection is not None:
                with suppress(ClosedError):
                    self._connection.dissociate_nowait(target)

    def _publish(self, data: dict[str, Any]) -> None:
        bridge = self._bridge
        if bridge is None or not is_for_old(data):
            targets = self._addressing.targets(data)
            if not self._send(targets, data):  # the server's own JSON module may know what that is
                self._send(targets, self.json.dumps(data))
        if bridge is not None:
            bridge.publish(data, self.json)

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
                self._get_logger().error("this server hears no others: %s", error)
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
            except TimeoutError:  # its clients are served meanwhile, and get a gap
                warn(self.logger, "the broker is not there yet: other servers are not heard")
            with self._changing:
                for target in self._rooms.targets:
                    connection.associate_nowait(target)
                self._connection = connection
            if self._attached is not None:
                self._attached.set()
            try:
                for item in connection.items():
                    message = self._take(item)
                    if message is not None:
                        yield message
            finally:
                self._connection = None

    def _take(self, item: Event | Gap) -> dict[str, Any] | None:
        """Return the message that is python-socketio's to handle; handle what is ours."""
        if isinstance(item, Gap):
            self._report(item)
            return None
        message = decode(item, self.json)
        if message is None:
            return None
        if message["method"] == QUESTION:
            self._answer(message)
        elif message["method"] == ANSWER:
            asked = self._asked.get(str(message.get("id")))
            if asked is not None:
                asked.survey.take(message)
                asked.came.set()
        else:
            return message
        return None

    def _report(self, gap: Gap) -> None:
        if self._first_client_at is None or gap.until <= self._first_client_at:
            return  # it was over before there was anybody who could miss something
        self.gaps += 1
        warn(self.logger, describe(gap))
        arguments = self._arguments
        try:
            if arguments.on_gap is not None:
                arguments.on_gap(gap)
            if arguments.gap_event is not None and not gap.is_open:
                for namespace in list(self.rooms):
                    self.emit(arguments.gap_event, event_of(gap), namespace=namespace, ignore_queue=True)
        except Exception:  # noqa: BLE001 -- the host's callback must not end what hears the others
            self._get_logger().exception("reporting a gap failed")

    def _answer(self, question: Mapping[str, Any]) -> None:
        connection = self._connection
        try:
            sids = self._sids(str(question.get("namespace")), question.get("room"))
        except (TypeError, LookupError):  # no room can be called that
            sids = []
        if connection is not None:
            self._publish(answer_to(question, sids, connection.stats().pod_name))

    def _sids(self, namespace: str, room: object) -> list[str]:
        return [sid for sid, _ in self.get_participants(namespace, room)]

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
            self._get_logger().error("a client can't connect: %s", error)
            self.basic_disconnect(sid, namespace)
            return None
        return sid

    def _confirm(self, targets: Sequence[Target]) -> None:
        """Return once the broker has confirmed that this server hears these; at once while it is away."""
        connection = self._connection
        if connection is not None and self._addressing.by_room:
            for target in targets:
                if self._rooms.holds(target):
                    connection.associate(target)
                    with self._changing:
                        if not self._rooms.holds(target):  # left meanwhile
                            connection.dissociate_nowait(target)

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
        """Handle what servers with python-socketio's own manager send."""
        if self._bridge is None:
            return
        handlers = {
            "callback": self._handle_callback,
            "emit": self._handle_emit,
            "disconnect": self._handle_disconnect,
            "enter_room": self._handle_enter_room,
            "leave_room": self._handle_leave_room,
            "close_room": self._handle_close_room,
        }
        for data in self._bridge.listen():
            message = message_of(data, self.json)
            if message is None or not is_from_old(message, self.host_id):
                continue
            handle = handlers.get(message["method"])
            if handle is not None:
                try:
                    handle(message)
                except Exception:  # noqa: BLE001 -- as python-socketio does with those of its own
                    self._get_logger().exception("a message of the old channel could not be handled")

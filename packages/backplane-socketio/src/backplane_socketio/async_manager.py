"""The client manager of a `socketio.AsyncServer`: `AsyncBackplaneManager`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from logging import Logger
from typing import Any

from attrs import define, field, frozen
from backplane_core import (
    BackplaneError,
    BaseBackplane,
    ConnectOptions,
    Event,
    EventEncodeError,
    Gap,
    GapCallback,
    Readiness,
    SyncPublisher,
    Target,
    connect,
)

from backplane_socketio._addressing import ALL, room_target
from backplane_socketio._arguments import check_arguments
from backplane_socketio._backlog import discard, far_behind
from backplane_socketio._bridge import AsyncBridge, is_for_old, is_from_old
from backplane_socketio._framework import AsyncPubSubManager
from backplane_socketio._gaps import describe, event_of, warn
from backplane_socketio._hearing import CONFIRM_S, MAX_PENDING, MAX_PENDING_BYTES, RETRY_S, START_S
from backplane_socketio._messages import decode, message_of, new_host_id
from backplane_socketio._rooms import Rooms
from backplane_socketio._survey import ANSWER, QUESTION, Survey, answer_to
from backplane_socketio.json_module import JsonModule
from backplane_socketio.participants import Participants

__all__ = ["AsyncBackplaneManager"]


@frozen(eq=False)
class Here:
    """Where a server hears the others.

    Args:
        backplane: Its pod.
        loop: The loop of both.
    """

    backplane: BaseBackplane
    loop: asyncio.AbstractEventLoop


@define(eq=False)
class Asked:
    """A question that waits for answers.

    Args:
        survey: What came so far.
        came: Set with each answer.
    """

    survey: Survey
    came: asyncio.Event = field(factory=asyncio.Event)


class AsyncBackplaneManager(AsyncPubSubManager):
    """Shares the clients of several `socketio.AsyncServer`s over a broker, in place of `socketio.AsyncRedisManager`.

        manager = AsyncBackplaneManager("redis://localhost:6379")
        server = socketio.AsyncServer(client_manager=manager)

    A server starts and serves its own clients also while its broker is away. What other servers send meanwhile is
    missing, and that is reported as a gap. With `write_only` it emits from any process without a server, from as many
    event loops as there are, over one connection for each process.

    Args:
        url: The broker's, as `backplane_core.connect` takes it.
        channel: The fleet's name: the same in all servers.
        write_only: Whether it only emits, and hears nothing.
        logger: Used in place of the server's.
        json: A JSON module for a manager without a server; with one, the server's is used.
        by_room: Whether a server hears only the rooms of its own clients, and not all that is emitted anywhere: for
            many servers with many rooms. Entering a room then waits for the broker. The same in all servers.
        on_gap: Called with each gap: messages of other servers may be missing. A plain callable that must not block.
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
        write_only: bool = False,  # noqa: FBT001, FBT002 -- as `AsyncRedisManager`, so that only the name changes
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
        # For other loops than the server's, and where there is no server. It connects when it is used.
        self._publisher = SyncPublisher(url, **self._arguments.options)
        self._bridge = None if bridge is None else AsyncBridge(bridge, channel)
        self._here: Here | None = None
        self._attached: asyncio.Event | None = None
        self._bridge_thread: asyncio.Task[None] | None = None
        self._asked: dict[str, Asked] = {}

    def initialize(self) -> None:
        """Start to hear the other servers; the server calls it when its first client comes."""
        if self._process != os.getpid():  # made before a server forked: each child is another server
            self._process, self.host_id = os.getpid(), new_host_id()
        super().initialize()
        if self._bridge is not None and not self.write_only:
            self._bridge_thread = self.server.start_background_task(self._listen_to_old)

    async def open(self, *, timeout_s: float = 5.0) -> None:
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
        async with asyncio.timeout(timeout_s):
            while self._here is None:  # noqa: ASYNC110 -- a start-up, once
                await asyncio.sleep(0.001)
            await self._here.backplane.wait_for_state("live")

    def ready(self) -> Readiness:
        """Return whether this server hears the others, or since when not and why; for a readiness probe."""
        here = self._here
        return Readiness(live=False, reason="it has not begun: see open()") if here is None else here.backplane.ready()

    async def aclose(self, *, drain_s: float = 5.0) -> None:
        """Hear nothing from now on, and return once what was emitted is sent; for the shutdown of an app.

        What is emitted later still reaches the other servers.

        Args:
            drain_s: Seconds for which it may go on sending.
        """
        here, self._here = self._here, None
        if here is not None:
            await here.backplane.aclose(drain_s=drain_s)
        if self._bridge_thread is not None:
            self._bridge_thread.cancel()
        if self._bridge is not None:
            self._bridge.close()
        try:
            await asyncio.to_thread(self._publisher.flush, timeout_s=drain_s)
        except TimeoutError as error:
            self._get_logger().warning("closing: %s", error)

    async def participants(self, room: object = None, namespace: str = "/", *, timeout_s: float = 1.0) -> Participants:
        """Return the clients of a room, on all servers.

        Args:
            room: The room; None: all clients of the namespace.
            namespace: The namespace.
            timeout_s: Seconds to wait for the other servers.

        Raises:
            RuntimeError: There is no server, or it only emits, or it has not begun to hear the others.
            ClosedError: The backplane is closed.
        """
        here = self._here
        if here is None:
            raise RuntimeError("only a server that hears the others can ask them: see open()")
        deadline = here.loop.time() + timeout_s
        survey = Survey(self.host_id, namespace, room, self._sids(namespace, room))
        self._asked[survey.id] = asked = Asked(survey)
        try:
            survey.asked(
                await here.backplane.fleet.publish(ALL, survey.question, exclude=(self.host_id,), timeout_s=timeout_s)
            )
            async with asyncio.timeout_at(deadline):
                while not survey.is_complete:
                    asked.came.clear()
                    await asked.came.wait()
        except TimeoutError:
            pass
        finally:
            del self._asked[survey.id]
        return survey.result()

    # What python-socketio calls

    async def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        """Register a client before its connect handler runs, and return once others reach it here.

        Args:
            eio_sid: The Engine.IO session id.
            namespace: The namespace.

        Returns:
            The client's session id; None: it can't connect.
        """
        return await self._reachable(await super().pre_connect(eio_sid, namespace), namespace)

    async def connect(self, sid: str, namespace: str) -> str | None:
        """Register a client, and return once others reach it here.

        Args:
            sid: The session id, or before python-socketio 5.17 the Engine.IO session id.
            namespace: The namespace.

        Returns:
            The client's session id; None: it can't connect.
        """
        return await self._reachable(await super().connect(sid, namespace), namespace)

    async def enter_room(self, sid: str, namespace: str, room: object, eio_sid: str | None = None) -> None:
        """Add a client to a room; with `by_room` return once others reach it there, if it is a client of this server.

        Args:
            sid: The client's session id.
            namespace: Its namespace.
            room: The room.
            eio_sid: The Engine.IO session id, if it is known.

        Raises:
            TargetDeniedError: The broker does not let this server hear the room.
        """
        await super().enter_room(sid, namespace, room, eio_sid=eio_sid)
        await self._confirm((room_target(namespace, room),))

    def basic_enter_room(self, sid: str, namespace: str, room: object, eio_sid: str | None = None) -> None:
        """Add a client of this server to a room.

        Args:
            sid: The client's session id.
            namespace: Its namespace.
            room: The room.
            eio_sid: The Engine.IO session id, if it is known.
        """
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
        super().basic_leave_room(sid, namespace, room)
        if self._addressing.by_room and room not in self.rooms.get(namespace, {}):
            target = self._rooms.leave(namespace, room)
            if target is not None and self._here is not None:
                self._here.backplane.dissociate_nowait(self.host_id, target)

    async def _publish(self, data: dict[str, Any]) -> None:
        bridge = self._bridge
        if bridge is None or not is_for_old(data):
            targets = self._addressing.targets(data)
            if not await self._send(targets, data):  # the server's own JSON module may know what that is
                await self._send(targets, self.json.dumps(data))
        if bridge is not None:
            await bridge.publish(data, self.json)

    async def _send(self, targets: Sequence[Target], event: object) -> bool:
        """Send an event to other servers; return False if it is not JSON."""
        here = self._here
        try:
            if here is not None and here.loop is asyncio.get_running_loop():
                await here.backplane.publish(targets, event, exclude=(self.host_id,))
            else:
                self._publisher.publish(targets, event, exclude=(self.host_id,))
        except EventEncodeError:
            return False
        return True

    async def _listen(self) -> AsyncGenerator[dict[str, Any]]:
        """Yield what others send. It ends with the server, by a cancellation."""
        self._attached = asyncio.Event()
        while True:
            try:
                async for message in self._hear():
                    yield message
            except BackplaneError as error:  # it is not let in: the loop around this would try again without a pause
                self._get_logger().error("this server hears no others: %s", error)
                await asyncio.sleep(RETRY_S)
            else:
                raise asyncio.CancelledError  # closed

    async def _hear(self) -> AsyncGenerator[dict[str, Any]]:
        async with connect(self._arguments.url, **self._arguments.options) as backplane:
            try:
                await backplane.wait_for_state("live", timeout_s=START_S)
            except TimeoutError:  # its clients are served meanwhile, and get a gap
                warn(self.logger, "the broker is not there yet: other servers are not heard")
            connection = backplane.connection(
                self.host_id,
                ALL,
                max_pending=MAX_PENDING,
                max_pending_bytes=MAX_PENDING_BYTES,
                overflow="drop_oldest",
            )
            async with connection:
                for target in self._rooms.targets:
                    backplane.associate_nowait(self.host_id, target)
                self._here = Here(backplane, asyncio.get_running_loop())
                try:
                    if self._attached is not None:
                        self._attached.set()
                    async for item in connection.items():
                        message = await self._take(item)
                        if message is not None:
                            yield message
                finally:
                    self._here = None

    async def _take(self, item: Event | Gap) -> dict[str, Any] | None:
        """Return the message that is python-socketio's to handle; handle what is ours."""
        if isinstance(item, Gap):
            await self._report(item)
            return None
        message = decode(item, self.json)
        if message is None:
            return None
        if message["method"] == QUESTION:
            await self._answer(message)
        elif message["method"] == ANSWER:
            asked = self._asked.get(str(message.get("id")))
            if asked is not None:
                asked.survey.take(message)
                asked.came.set()
        else:
            return message
        return None

    async def _report(self, gap: Gap) -> None:
        self.gaps += 1
        warn(self.logger, describe(gap))
        arguments = self._arguments
        try:
            if arguments.on_gap is not None:
                arguments.on_gap(gap)
            if arguments.gap_event is not None and not gap.is_open:
                for namespace in list(self.rooms):
                    await self.emit(arguments.gap_event, event_of(gap), namespace=namespace, ignore_queue=True)
        except Exception:  # noqa: BLE001 -- the host's callback must not end what hears the others
            self._get_logger().exception("reporting a gap failed")

    async def _answer(self, question: Mapping[str, Any]) -> None:
        here = self._here
        try:
            sids = list(self._sids(str(question.get("namespace")), question.get("room")))
        except (TypeError, LookupError):  # no room can be called that
            sids = []
        if here is not None:
            await self._publish(answer_to(question, sids, here.backplane.stats().pod_name))

    def _sids(self, namespace: str, room: object) -> Iterable[str]:
        return [sid for sid, _ in self.get_participants(namespace, room)]

    async def _reachable(self, sid: str | None, namespace: str) -> str | None:
        """Return a client's id once others reach it here; None: the broker does not let them."""
        if sid is None:
            return None
        attached = self._attached
        if attached is not None and not attached.is_set():
            try:
                async with asyncio.timeout(2 * START_S):
                    await attached.wait()
            except TimeoutError:
                pass
        try:
            await self._confirm((room_target(namespace, None), room_target(namespace, sid)))
        except BackplaneError as error:
            self._get_logger().error("a client can't connect: %s", error)
            self.basic_disconnect(sid, namespace)
            return None
        return sid

    async def _confirm(self, targets: Sequence[Target]) -> None:
        """Return once the broker has confirmed that this server hears these; not later than after some seconds."""
        here = self._here
        if here is None or not self._addressing.by_room:
            return
        try:
            async with asyncio.timeout(CONFIRM_S):
                for target in targets:
                    if self._rooms.holds(target):
                        await here.backplane.associate(self.host_id, target)
                        if not self._rooms.holds(target):  # left meanwhile
                            here.backplane.dissociate_nowait(self.host_id, target)
        except TimeoutError:
            self._get_logger().warning("the broker did not confirm a room in time")

    async def _handle_enter_room(self, message: dict[str, Any]) -> None:
        await super()._handle_enter_room(message)
        await self._confirm((room_target(message["namespace"], message["room"]),))

    async def _handle_emit(self, message: dict[str, Any]) -> None:
        await super()._handle_emit(message)
        if self._arguments.max_backlog is not None:
            for socket in far_behind(self, message, self._arguments.max_backlog):
                await socket.close(wait=False, abort=True, reason=self.server.eio.reason.TRANSPORT_ERROR)
                discard(socket)

    async def _listen_to_old(self) -> None:
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
        async for data in self._bridge.listen():
            message = message_of(data, self.json)
            if message is None or not is_from_old(message, self.host_id):
                continue
            handle = handlers.get(message["method"])
            if handle is not None:
                try:
                    await handle(message)
                except Exception:  # noqa: BLE001 -- as python-socketio does with those of its own
                    self._get_logger().exception("a message of the old channel could not be handled")

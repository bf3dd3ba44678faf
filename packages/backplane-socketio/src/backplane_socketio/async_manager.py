"""The client manager of a `socketio.AsyncServer`: `AsyncBackplaneManager`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any

from backplane_core import BackplaneError, EventEncodeError, Target, connect

from backplane_socketio._addressing import ALL, room_target
from backplane_socketio._backlog import discard, far_behind
from backplane_socketio._bridge import OLD_NOT_HANDLED, AsyncBridge
from backplane_socketio._framework import AsyncPubSubManager
from backplane_socketio._gaps import NOT_REPORTED
from backplane_socketio._hearing import CONFIRM_S, MAX_PENDING, MAX_PENDING_BYTES, RETRY_S, START_S, AsyncHearing
from backplane_socketio._manager import CommonManager
from backplane_socketio._steps import Handle, Notify, Publish
from backplane_socketio.participants import Participants

__all__ = ["AsyncBackplaneManager"]


class AsyncBackplaneManager(CommonManager[AsyncHearing, AsyncBridge], AsyncPubSubManager):
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

    _attached: asyncio.Event | None = None
    """Set once this server hears the others; None before it has begun to."""

    def _make_bridge(self, url: str, channel: str) -> AsyncBridge:
        return AsyncBridge(url, channel)

    async def open(self, *, timeout_s: float = 5.0) -> None:
        """Hear the other servers from now on, before the first client comes; for the start-up of an app.

        Args:
            timeout_s: Seconds to wait until it does.

        Raises:
            TimeoutError: The broker could not be reached in time. The server goes on to try.
            RuntimeError: There is no server, or it only emits.
        """
        self._begin()
        async with asyncio.timeout(timeout_s):
            while self._hearing is None:  # noqa: ASYNC110 -- a start-up, once
                await asyncio.sleep(0.001)
            await self._hearing.backplane.wait_for_state("live")

    async def aclose(self, *, drain_s: float = 5.0) -> None:
        """Hear nothing from now on, and return once what was emitted is sent; for the shutdown of an app.

        What is emitted later still reaches the other servers.

        Args:
            drain_s: Seconds for which it may go on sending.
        """
        hearing, self._hearing = self._hearing, None
        if hearing is not None:
            await hearing.backplane.aclose(drain_s=drain_s)
        if self._bridge_thread is not None:
            self._bridge_thread.cancel()
        if self._bridge is not None:
            self._bridge.close()
        try:
            await asyncio.to_thread(self._publisher.flush, timeout_s=drain_s)
        except TimeoutError as error:
            self._log_not_sent(error)

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
        hearing = self._hearing_to_ask()
        deadline = hearing.loop.time() + timeout_s
        survey, answered = self._survey(namespace, room), asyncio.Event()
        with self._surveys.open(survey, answered), suppress(TimeoutError):
            fleet = hearing.backplane.fleet
            survey.asked(await fleet.publish(ALL, survey.question, exclude=(self.host_id,), timeout_s=timeout_s))
            async with asyncio.timeout_at(deadline):
                while not survey.is_complete:
                    answered.clear()
                    await answered.wait()
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

    async def _publish(self, data: dict[str, Any]) -> None:
        targets = self._targets(data)
        if targets and not await self._send(targets, data):  # the server's own JSON module may know what that is
            await self._send(targets, self.json.dumps(data))
        if self._bridge is not None:
            await self._bridge.publish(data, self.json)

    async def _send(self, targets: Sequence[Target], event: object) -> bool:
        """Send an event to other servers; return False if it is not JSON."""
        hearing = self._hearing
        try:
            if hearing is not None and hearing.loop is asyncio.get_running_loop():
                await hearing.backplane.publish(targets, event, exclude=(self.host_id,))
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
                self._log_shut_out(error)
                await asyncio.sleep(RETRY_S)
            else:
                raise asyncio.CancelledError  # closed

    async def _hear(self) -> AsyncGenerator[dict[str, Any]]:
        async with connect(self._arguments.url, **self._arguments.options) as backplane:
            try:
                await backplane.wait_for_state("live", timeout_s=START_S)
            except TimeoutError:
                self._log_no_broker()
            connection = backplane.connection(
                self.host_id,
                ALL,
                max_pending=MAX_PENDING,
                max_pending_bytes=MAX_PENDING_BYTES,
                overflow="drop_oldest",
            )
            async with connection:
                self._hear_over(AsyncHearing(backplane, self.host_id, asyncio.get_running_loop()))
                try:
                    if self._attached is not None:
                        self._attached.set()
                    async for item in connection.items():
                        match self._take(item):
                            case Handle(message):
                                yield message
                            case Publish(message):
                                await self._publish(message)
                            case Notify() as notice:
                                await self._notify(notice)
                            case None:
                                pass
                finally:
                    self._hearing = None

    async def _notify(self, notice: Notify) -> None:
        with self._contained(NOT_REPORTED):
            for namespace in notice.namespaces:
                await self.emit(notice.event, notice.data, namespace=namespace, ignore_queue=True)

    async def _reachable(self, sid: str | None, namespace: str) -> str | None:
        """Return a client's id once others reach it here; None: the broker does not let them."""
        if sid is None:
            return None
        attached = self._attached
        if attached is not None and not attached.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(2 * START_S):
                    await attached.wait()
        try:
            await self._confirm((room_target(namespace, None), room_target(namespace, sid)))
        except BackplaneError as error:
            self._refuse(sid, namespace, error)
            return None
        return sid

    async def _confirm(self, targets: Sequence[Target]) -> None:
        """Return once the broker has confirmed that this server hears these; not later than after some seconds."""
        hearing = self._hearing
        if hearing is None or not self._addressing.by_room:
            return
        try:
            async with asyncio.timeout(CONFIRM_S):
                for target in targets:
                    if self._rooms.holds(target):
                        await hearing.associate(target)
                        self._unless_left(hearing, target)
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
        if self._bridge is None:
            return
        handlers = self._old_handlers()
        async for data in self._bridge.listen():
            message = self._from_old(data)
            if message is not None and message["method"] in handlers:
                with self._contained(OLD_NOT_HANDLED):
                    await handlers[message["method"]](message)

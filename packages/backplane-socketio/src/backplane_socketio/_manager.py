"""What both client managers have in common: their state, and all that they decide without waiting."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from logging import Logger
from typing import Any, Generic, TypeAlias, TypeVar

from backplane_core import (
    BackplaneError,
    ClosedError,
    ConnectOptions,
    Event,
    Gap,
    GapCallback,
    Readiness,
    SyncPublisher,
    Target,
)

from backplane_socketio._arguments import check_arguments
from backplane_socketio._bridge import is_for_old, is_from_old
from backplane_socketio._framework import BaseManager
from backplane_socketio._gaps import NOT_REPORTED, describe, event_of, warn
from backplane_socketio._hearing import Hearing
from backplane_socketio._messages import decode, message_of, new_host_id
from backplane_socketio._rooms import Rooms
from backplane_socketio._steps import Handle, Notify, Publish, Step
from backplane_socketio._survey import ANSWER, QUESTION, Survey, Surveys, answer_to
from backplane_socketio.json_module import JsonModule

__all__ = ["CommonManager"]

HearingT = TypeVar("HearingT", bound=Hearing)
BridgeT = TypeVar("BridgeT")

Handler: TypeAlias = Callable[[dict[str, Any]], Any]
"""A method of python-socketio's that handles a message; what it returns is awaited in a loop."""


class CommonManager(BaseManager, Generic[HearingT, BridgeT]):
    """The part of a client manager that never waits. A manager inherits it before python-socketio's own."""

    name = "backplane"

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        channel: str = "socketio",
        write_only: bool = False,  # noqa: FBT001, FBT002 -- as python-socketio's managers, so that only the name changes
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
        # What a room holds, and what is heard for it, change together. Nothing waits while it is held.
        self._changing = threading.RLock()
        # For where there is no server, and for other loops than the server's. It connects when it is used.
        self._publisher = SyncPublisher(url, **self._arguments.options)
        self._bridge = None if bridge is None else self._make_bridge(bridge, channel)
        self._bridge_thread: Any = None
        self._hearing: HearingT | None = None
        self._surveys = Surveys()

    @abstractmethod
    def _make_bridge(self, url: str, channel: str) -> BridgeT:
        """Return the way to the servers with python-socketio's own manager."""

    @abstractmethod
    def _listen_to_old(self) -> object:
        """Handle what those servers send; a background task of the server."""

    def initialize(self) -> None:
        """Start to hear the other servers; the server calls it when its first client comes."""
        if self._process != os.getpid():  # made before a server forked: each child is another server
            self._process, self.host_id = os.getpid(), new_host_id()
        super().initialize()
        if self._bridge is not None and not self.write_only:
            self._bridge_thread = self.server.start_background_task(self._listen_to_old)

    def _begin(self) -> None:
        """Do what the server does when its first client comes.

        Raises:
            RuntimeError: There is no server, or it only emits.
        """
        if self.server is None or self.write_only:
            raise RuntimeError("only the manager of a server hears others")
        if not self.server.manager_initialized:
            self.server.manager_initialized = True
            self.initialize()

    def ready(self) -> Readiness:
        """Return whether this server hears the others, or since when not and why; for a readiness probe."""
        hearing = self._hearing
        return Readiness(live=False, reason="it has not begun: see open()") if hearing is None else hearing.ready()

    # Rooms, and the targets that are heard for them

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
            if target is not None and self._hearing is not None:
                with suppress(ClosedError):
                    self._hearing.dissociate_nowait(target)

    def _hear_over(self, hearing: HearingT) -> None:
        """Hear the others from now on, and the rooms of this server's clients."""
        with self._changing:
            for target in self._rooms.targets:
                hearing.associate_nowait(target)
            self._hearing = hearing

    def _unless_left(self, hearing: HearingT, target: Target) -> None:
        """Hear a target no longer that has been left while the broker confirmed it."""
        with self._changing:
            if not self._rooms.holds(target):
                hearing.dissociate_nowait(target)

    def _refuse(self, sid: str, namespace: str, error: BackplaneError) -> None:
        """Let go of a client that the others can't reach."""
        self._get_logger().error("a client can't connect: %s", error)
        self.basic_disconnect(sid, namespace)

    # What goes out

    def _targets(self, message: Mapping[str, Any]) -> Sequence[Target]:
        """Return which servers of ours must hear a message; none if it is for an old one alone."""
        return () if self._bridge is not None and is_for_old(message) else self._addressing.targets(message)

    def _hearing_to_ask(self) -> HearingT:
        if self._hearing is None:
            raise RuntimeError("only a server that hears the others can ask them: see open()")
        return self._hearing

    def _survey(self, namespace: str, room: object) -> Survey:
        return Survey(self.host_id, namespace, room, self._sids(namespace, room))

    def _sids(self, namespace: str, room: object) -> list[str]:
        return [sid for sid, _ in self.get_participants(namespace, room)]

    # What comes in

    def _take(self, item: Event | Gap) -> Step | None:
        """Handle what came from the others as far as nothing waits; return what is left to do."""
        if isinstance(item, Gap):
            return self._report(item)
        message = decode(item, self.json)
        if message is None:
            return None
        if message["method"] == QUESTION:
            return self._answer(message)
        if message["method"] == ANSWER:
            self._surveys.take(message)
            return None
        return Handle(message)

    def _report(self, gap: Gap) -> Notify | None:
        self.gaps += 1
        warn(self.logger, describe(gap))
        arguments = self._arguments
        with self._contained(NOT_REPORTED):
            if arguments.on_gap is not None:
                arguments.on_gap(gap)
            if arguments.gap_event is not None and not gap.is_open:
                return Notify(arguments.gap_event, event_of(gap), list(self.rooms))
        return None

    def _answer(self, question: Mapping[str, Any]) -> Publish | None:
        hearing = self._hearing
        try:
            sids = self._sids(str(question.get("namespace")), question.get("room"))
        except (TypeError, LookupError):  # no room can be called that
            sids = []
        return None if hearing is None else Publish(answer_to(question, sids, hearing.stats().pod_name))

    def _from_old(self, data: object) -> dict[str, Any] | None:
        """Return the message of the old channel that this server has to handle, if it is one."""
        message = message_of(data, self.json)
        return message if message is not None and is_from_old(message, self.host_id) else None

    def _old_handlers(self) -> Mapping[str, Handler]:
        """Return what handles messages of the old channel, by their methods."""
        return {
            "callback": self._handle_callback,
            "emit": self._handle_emit,
            "disconnect": self._handle_disconnect,
            "enter_room": self._handle_enter_room,
            "leave_room": self._handle_leave_room,
            "close_room": self._handle_close_room,
        }

    # What is logged

    @contextmanager
    def _contained(self, text: str) -> Generator[None]:
        """Log what the block raises, which must not end what hears the others."""
        try:
            yield
        except Exception:  # noqa: BLE001 -- of the host's callbacks, and as python-socketio does with its own handlers
            self._get_logger().exception(text)

    def _log_no_broker(self) -> None:
        """Log that the broker is away at the start: clients are served meanwhile, and get a gap."""
        warn(self.logger, "the broker is not there yet: other servers are not heard")

    def _log_shut_out(self, error: BackplaneError) -> None:
        """Log that this server was not let in."""
        self._get_logger().error("this server hears no others: %s", error)

    def _log_not_sent(self, error: TimeoutError) -> None:
        """Log that a closing manager could not send all in time."""
        self._get_logger().warning("closing: %s", error)

"""One process's publisher of one URL: `SharedPublisher`, which all `SyncPublisher`s with the same options share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from backplane_core._portal.encoded_publisher import EncodedPublisher
from backplane_core._portal.intake import Intake, Item
from backplane_core._portal.native import pause
from backplane_core._portal.portal import Portal, Resident, enter
from backplane_core._runtime.logging import logger
from backplane_core.errors import ClosedError, EventTooLargeError
from backplane_core.observe import State, Stats
from backplane_core.options import Settings

__all__ = ["SharedPublisher", "share"]

Key: TypeAlias = tuple[int, str, Hashable]


class SharedPublisher(Resident):
    """A publisher in this process's portal, for one or more holders; it connects when the first of them publishes.

    Making one costs nothing, as a signal handler may do so while another is made: the publisher itself is made in the
    loop.

    Args:
        key: Publishers with the same key share this one.
        url: The broker's.
        options: The publisher's; they are known to be right.
        settings: The same, checked.
    """

    def __init__(self, key: Key, url: str, options: Mapping[str, Any], settings: Settings) -> None:
        self.pid = key[0]
        self.key = key
        """Publishers with the same key share this one."""
        self._url = url
        self._options = options
        self._settings = settings
        self._publisher: EncodedPublisher | None = None
        self._intake = Intake(settings)
        self._portal: Portal | None = None
        self._holders: set[object] = set()
        self._opening: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None

    # From any thread

    @property
    def is_closed(self) -> bool:
        """Whether it takes nothing more."""
        return self._intake.closed

    @property
    def state(self) -> State:
        """The publisher's."""
        return "connecting" if self._publisher is None else self._publisher.state

    def start(self) -> None:
        """Enter the portal, and connect."""
        portal = enter(self)
        self._portal = portal
        portal.soon(self._open)

    def give_up(self) -> None:
        """Take nothing: it could not start."""
        self._intake.closed = True
        _forget(self)

    def hold(self, holder: object) -> bool:
        """Let it live until this holder lets go, too; False if it is closing."""
        self._holders.add(holder)
        if self._intake.closed:
            self._holders.discard(holder)
            return False
        return True

    def let_go(self, holder: object, drain_s: float) -> None:
        """Send what was accepted; the last holder closes it."""
        self._holders.discard(holder)
        portal = self._entered()
        self._intake.closed = not self._holders  # a holder that comes from now on sees that
        if self._holders:
            self._intake.closed = False
            try:
                self.flush(drain_s)
            except TimeoutError as error:
                logger.warning("closing: %s", error)
            return
        _forget(self)
        portal.run(self.leave(drain_s))
        portal.wait_until_gone()

    def put(self, item: Item) -> bool:
        """Accept an event, or return False: it is closed, and another one may be had.

        Raises:
            EventTooLargeError: The event does not fit.
            OutboxFullError: There is no room, and the policy is "raise".
        """
        publisher = self._publisher
        if publisher is not None:
            publisher.check_size(*item)
        elif len(item[1]) > self._settings.max_event_bytes:
            raise EventTooLargeError(len(item[1]), self._settings.max_event_bytes)
        if publisher is not None and self.is_current and not publisher.has_room(1, len(item[1])):
            # An observer that publishes what is dropped would feed itself for ever: so this is counted, and no record.
            publisher.count_dropped()
            return True
        if not self._intake.put(item):
            return False
        self._intake.give_time()
        return True

    def wait_until_open(self) -> None:
        """Return once it is connected.

        Raises:
            TransportError: It could not within `connect_timeout_s`. This one is closed then.
            AuthenticationError: The broker refused the credentials.
        """
        self._entered().run(self._wait_until_open())

    def flush(self, timeout_s: float | None) -> None:
        """Return once the broker has what was accepted before; see `SyncPublisher.flush`."""
        self._entered().run(self._flush(timeout_s))

    def stats(self) -> Stats:
        """Return the publisher's counters, with all that was accepted before."""
        portal = self._entered()
        if portal.is_current and self._publisher is not None:
            return self._publisher.stats()
        return portal.run(self._stats())

    @property
    def is_current(self) -> bool:
        """Whether this is the loop's own thread."""
        return self._portal is not None and self._portal.is_current

    def _entered(self) -> Portal:
        # Another thread made it a moment ago, and is about to start it.
        while self._portal is None:
            if self._intake.closed:
                raise ClosedError("the publisher could not start")
            pause()
        return self._portal

    # In the portal's loop

    def _open(self) -> None:
        self._publisher = publisher = EncodedPublisher(self._url, **self._options)
        self._opening = asyncio.ensure_future(publisher.open())
        self._opening.add_done_callback(self._opened)
        if self._portal is not None:
            self._intake.open(self._portal, publisher)

    def _opened(self, opening: asyncio.Task[None]) -> None:
        if opening.cancelled() or opening.exception() is not None:  # raised to those who wait for it
            self._intake.closed = True
            _forget(self)
            if self._portal is not None:
                self._portal.dismiss(self)

    async def _wait_until_open(self) -> None:
        if self._opening is not None:
            await asyncio.shield(self._opening)

    async def _flush(self, timeout_s: float | None) -> None:
        await self._served().flush(timeout_s)

    async def _stats(self) -> Stats:
        return self._served().stats()

    def _served(self) -> EncodedPublisher:
        """Return the publisher, with all that was accepted before."""
        if self._publisher is None:  # `_open` was handed over before anything else
            raise ClosedError("the publisher could not start")
        self._intake.serve_all()
        return self._publisher

    async def leave(self, drain_s: float) -> None:
        """Take what was accepted, send it for at most so many seconds, and close."""
        if self._leaving is None:
            self._leaving = asyncio.ensure_future(self._leave(drain_s))
        await self._leaving

    async def _leave(self, drain_s: float) -> None:
        self._intake.closed = True
        try:
            await self._served().aclose(drain_s)
        finally:
            if self._portal is not None:
                self._portal.dismiss(self)


_shared: Final[dict[Key, SharedPublisher]] = {}


def share(holder: object, url: str, options: Mapping[str, Any], settings: Settings) -> SharedPublisher:
    """Return this process's publisher of that URL with these options, held; start it if there is none.

    Args:
        holder: Anything of one's own; see `SharedPublisher.let_go`.
        url: The broker's.
        options: The publisher's.
        settings: The same, checked.

    Raises:
        ClosedError: The interpreter is ending.
        ConfigurationError: No thread can run here.
    """
    key = (os.getpid(), url, _frozen(options))
    while True:
        found = _shared.get(key)
        if found is None:
            new = SharedPublisher(key, url, options, settings)
            found = _shared.setdefault(key, new)  # atomic: one of several threads wins, and starts it
            if found is new:
                try:
                    new.start()
                except BaseException:
                    new.give_up()
                    raise
        if found.hold(holder):
            return found
        _forget(found)


def _forget(shared: SharedPublisher) -> None:
    """Let nobody new find it."""
    if _shared.get(shared.key) is shared:
        _shared.pop(shared.key, None)


def _frozen(value: object) -> Hashable:
    """Return something that is equal for equal options; what can't be compared is equal to itself alone."""
    if isinstance(value, Mapping):
        return frozenset([(str(name), _frozen(each)) for name, each in cast("Mapping[str, object]", value).items()])
    if isinstance(value, (list, tuple)):
        return tuple([_frozen(each) for each in cast("Sequence[object]", value)])
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value

"""What one process has once per URL and options, for all of its threads: `Shared`, held until the last one lets go."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar, cast

from backplane_core._portal.native import pause
from backplane_core._portal.portal import Portal, Resident, enter
from backplane_core._runtime.logging import logger
from backplane_core.distributed import DistributedBackplane
from backplane_core.errors import ClosedError

__all__ = ["Shared", "share"]

Key: TypeAlias = tuple[int, type, str, Hashable]
S = TypeVar("S", bound="Shared")


class Shared(Resident, ABC):
    """A backplane in this process's portal, for one or more holders; the first one starts it.

    Making one of these costs nothing, as a signal handler may do so while another is made: the backplane itself is made
    in the loop.

    Args:
        url: The broker's.
        options: The backplane's; they are known to be right.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.key: Key = (os.getpid(), type(self), url, _frozen(options))
        """What has the same key shares this one."""
        self.is_closed = False
        """Whether it takes nothing more."""
        self.url = url
        self.options = options
        self.portal: Portal | None = None
        self._holders: set[object] = set()
        self._opening: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None

    # From any thread

    @property
    def is_own(self) -> bool:
        """Whether it is open, and this process's, not its parent's."""
        return self.key[0] == os.getpid() and not self.is_closed

    @property
    def is_current(self) -> bool:
        """Whether this is the loop's own thread."""
        return self.portal is not None and self.portal.is_current

    def start(self) -> None:
        """Enter the portal, and connect."""
        portal = enter(self)
        self.portal = portal
        portal.soon(self._open)

    def give_up(self) -> None:
        """Take nothing: it could not start."""
        self.is_closed = True
        _forget(self)

    def hold(self, holder: object) -> bool:
        """Let it live until this holder lets go, too; False if it is closing."""
        self._holders.add(holder)
        if self.is_closed:
            self._holders.discard(holder)
            return False
        return True

    def let_go(self, holder: object, drain_s: float) -> None:
        """Send what was accepted; the last holder closes it."""
        self._holders.discard(holder)
        portal = self.entered()
        self.is_closed = not self._holders  # a holder that comes from now on sees that
        if self._holders:
            self.is_closed = False
            try:
                self.flush(drain_s)
            except TimeoutError as error:
                logger.warning("closing: %s", error)
            except ClosedError:  # the last holder let go meanwhile, and has sent or counted what was left
                pass
            return
        _forget(self)
        with suppress(ClosedError):  # another holder was the last one at the same time: it has sent what was left
            portal.run(self.leave(drain_s))
        portal.wait_until_gone()

    def wait_until_open(self) -> None:
        """Return once it is connected.

        Raises:
            TransportError: It could not within `connect_timeout_s`. This one is closed then.
            AuthenticationError: The broker refused the credentials.
        """
        self.entered().run(self._wait_until_open())

    def flush(self, timeout_s: float | None) -> None:
        """Return once the broker has what was accepted before.

        Raises:
            TimeoutError: It had not within `timeout_s`.
        """
        self.entered().run(self._flush(timeout_s))

    def entered(self) -> Portal:
        """Return the portal; if another thread is about to start this, wait for that."""
        while self.portal is None:
            if self.is_closed:
                raise ClosedError("the event loop could not start")
            pause()
        return self.portal

    # In the portal's loop

    @abstractmethod
    def make(self) -> DistributedBackplane:
        """Make the backplane."""

    @abstractmethod
    def served(self) -> DistributedBackplane:
        """Return the backplane, with all that was accepted before."""

    def _open(self) -> None:
        self._opening = asyncio.ensure_future(self.make().open())
        self._opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Task[None]) -> None:
        if opening.cancelled() or opening.exception() is not None:  # raised to those who wait for it
            self.give_up()
            if self.portal is not None:
                self.portal.dismiss(self)

    async def _wait_until_open(self) -> None:
        if self._opening is not None:
            await asyncio.shield(self._opening)

    async def _flush(self, timeout_s: float | None) -> None:
        await self.served().flush(timeout_s=timeout_s)

    async def leave(self, drain_s: float) -> None:
        """Take what was accepted, send it for at most so many seconds, and close."""
        if self._leaving is None:
            self._leaving = asyncio.ensure_future(self._leave(drain_s))
        await self._leaving

    async def _leave(self, drain_s: float) -> None:
        self.is_closed = True
        try:
            await self.served().aclose(drain_s=drain_s)
        finally:
            if self.portal is not None:
                self.portal.dismiss(self)


_shared: Final[dict[Key, Shared]] = {}


def share(offered: S, holder: object) -> S:
    """Return this process's backplane of that kind, URL and options, held; if there is none, start what is offered.

    Args:
        offered: One that has not been started.
        holder: Anything of one's own; see `Shared.let_go`.

    Raises:
        ClosedError: The interpreter is ending.
        ConfigurationError: No thread can run here.
    """
    offered.hold(holder)  # first: who finds it may let go of it before this goes on, and must not be the last
    while True:
        found = _shared.setdefault(offered.key, offered)  # atomic: one of several threads wins, and starts it
        if found is offered:
            try:
                offered.start()
            except BaseException:
                offered.give_up()
                raise
            return offered
        if found.hold(holder):
            return cast("S", found)
        _forget(found)


def _forget(shared: Shared) -> None:
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

"""What `backplane.fleet` answers of who is present: `PresenceCalls` asks the views."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Final

from attrs import define, field

from backplane_core._fleet.asker import Asker
from backplane_core._fleet.names import missing_pods, names_of
from backplane_core._fleet.survey import OTHERS
from backplane_core._local.arguments import check_target, check_timeout
from backplane_core._local.states import States
from backplane_core._presence.change_queue import ChangeQueue
from backplane_core._presence.driver import PresenceDriver
from backplane_core._presence.view import SETTLE_S, SILENT, Follower, Joined, Step, View
from backplane_core._presence.views import MAX_VIEWS
from backplane_core._protocol.json import decode_event
from backplane_core._protocol.reasons import CUT_OFF
from backplane_core._runtime.loop_binding import LoopBinding
from backplane_core.errors import ConfigurationError, EnvelopeError, InvalidTargetError
from backplane_core.presence import Presence, PresenceChange, PresenceJoined, PresenceLeft, PresenceSnapshot
from backplane_core.target import Target

__all__ = ["PresenceCalls"]

SLICE: Final = 1_000
"""Values that are decoded before the loop gets a turn: a millisecond or two."""
MAX_READERS: Final = 4_096
"""Watches of one pod that may run at once; each may have a thousand changes wait."""


@define(eq=False)
class Once(Follower):
    """Waits for the first snapshot of a view."""

    _has_settled: asyncio.Event = field(factory=asyncio.Event, init=False)

    def step(self, step: Step) -> None:
        """Nothing follows the snapshot."""

    def start_over(self) -> None:
        """Take note that the snapshot is due."""
        self._has_settled.set()

    def end(self) -> None:
        """Take note that nothing else comes."""
        self._has_settled.set()

    async def settled(self) -> None:
        """Return once the snapshot is due."""
        await self._has_settled.wait()


class PresenceCalls:
    """See `Fleet.presence` and `Fleet.watch`.

    Args:
        asker: Knows what pods are called.
        driver: Holds the views.
        loop_binding: The loop that it may be used in.
        states: Whether the backplane is open.
    """

    def __init__(self, asker: Asker, driver: PresenceDriver, loop_binding: LoopBinding, states: States) -> None:
        self._asker = asker
        self._driver = driver
        self._loop_binding = loop_binding
        self._states = states

    async def presence(self, target: Target, timeout_s: float) -> Presence:
        """Return who is present in a target."""
        self._check(target)
        check_timeout(timeout_s)
        self._check_room()
        driver, once = self._driver, Once()
        view = driver.open(target, once, settle_s=timeout_s, watch=False)
        try:
            waits_for_unknown = view.waits_for_unknown
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await once.settled()
                    waits_for_unknown = False
            if waits_for_unknown and timeout_s >= SETTLE_S:
                driver.surveyed()
            return await self._answer(view, f"no answer within {timeout_s:g} s")
        finally:
            driver.close_view(view, once)

    def watch(self, target: Target) -> AsyncGenerator[PresenceChange]:
        """Yield who is present in a target, and what changes."""
        self._check(target)
        return self._watch(target)

    async def _watch(self, target: Target) -> AsyncGenerator[PresenceChange]:
        self._check(target)
        driver = self._driver
        if driver.readers >= MAX_READERS:
            raise ConfigurationError(f"{MAX_READERS} watches run on this pod already: let several readers share one")
        view = driver.presence.views.watching(target)
        if view is None:
            self._check_room()
            view = driver.open(target, None, settle_s=SETTLE_S, watch=True)
        queue = ChangeQueue(view)
        driver.follow(view, queue)
        has_begun = False
        try:
            while (item := await queue.next()) is not None:
                if isinstance(item, View):
                    yield await self._snapshot(view, skipped=has_begun)
                    has_begun = True
                elif isinstance(item, Joined):
                    yield PresenceJoined(item.key, _value(item.value))
                else:
                    yield PresenceLeft(item.key)
        finally:
            driver.close_view(view, queue)

    def _check(self, target: Target) -> None:
        self._loop_binding.check()
        self._states.check_open()
        check_target(target)
        if target.kind == "connection":
            raise InvalidTargetError("nobody is present in a connection: ask for one of its targets")

    def _check_room(self) -> None:
        if self._driver.presence.views.is_full:
            raise ConfigurationError(f"{MAX_VIEWS} targets are watched, or asked for, on this pod already")

    async def _snapshot(self, view: View, *, skipped: bool) -> PresenceSnapshot:
        shown, missing = view.shown.copy(), self._missing(view)  # changes from now on come behind it
        pods = missing_pods(names_of(self._asker, missing), missing)
        return PresenceSnapshot(present=await _values(shown), missing=pods, skipped=skipped)

    async def _answer(self, view: View, silence: str) -> Presence:
        missing = {origin: silence if why == SILENT else why for origin, why in self._missing(view).items()}
        found = {origin: part.keys.copy() for origin, part in view.parts.items() if origin not in missing}
        names = names_of(self._asker, [*found, *missing])
        by_pod = {names[origin]: await _values(keys) for origin, keys in found.items()}
        present = {key: value for values in by_pod.values() for key, value in values.items()}
        return Presence(present=present, by_pod=by_pod, missing=missing_pods(names, missing), total=len(present))

    def _missing(self, view: View) -> dict[str, str]:
        missing = view.missing()
        if not missing and self._asker.is_cut_off:
            missing[OTHERS] = CUT_OFF
        return missing


async def _values(keys: Mapping[str, bytes]) -> dict[str, object]:
    """Return the value of each key; give the event loop a turn every few milliseconds."""
    values: dict[str, object] = {}
    for number, (key, value) in enumerate(keys.items(), 1):
        values[key] = _value(value)
        if not number % SLICE:
            await asyncio.sleep(0)
    return values


def _value(value: bytes) -> object:
    """Return what is shown; None if it has no Python value."""
    try:
        return decode_event(value)
    except EnvelopeError:
        return None

"""What the buttons of `/admin` do, and what it shows: `AdminDesk`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any, Final

import attrs
from attrs import define, field
from backplane_core import BackplaneError, BaseBackplane, Target

from backplane_server._admin.scrape import scrape
from backplane_server._page.orders import OrderError, read_target
from backplane_server._page.samples import Sample

__all__ = ["AdminDesk"]

ASK_S: Final = 1.0
"""Seconds to wait for pods that are to answer."""
FRESH_S: Final = 3.0
"""For how long an answer of the fleet is shown: the pages of all admins ask it once in that time."""
MOST_PRESENT: Final = 200
"""Who are shown, of those who are present; their number is that of all."""
KICKED: Final = 4403
"""A close code after which a client does not come back by itself."""


@define(eq=False)
class AdminDesk:
    """Asks the fleet of a gateway, and gives it orders.

    Args:
        backplane: The gateway's.
    """

    _backplane: BaseBackplane
    _turn: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _asked_at: float = field(default=float("-inf"), init=False)
    _fleet: Mapping[str, Any] = field(factory=dict[str, Any], init=False)

    def about(self) -> Mapping[str, object]:
        """Return what stays as it is."""
        pods = [{"name": self._backplane.stats().pod_name, "url": ""}]
        return {"kind": "admin", "has_log": self._backplane.last_event_id is not None, "pods": pods}

    async def status(self) -> Mapping[str, object]:
        """Return how things are now: the fleet as it answered last, and what this gateway counts."""
        fleet, own = await self._ask_fleet(), Sample.of(await scrape(self._backplane))
        here = self._backplane.stats().pod_name
        pods = [{**pod, **(attrs.asdict(own) if pod["name"] == here else {})} for pod in fleet["pods"]]
        if all(pod["name"] != here for pod in pods):  # it is cut off, or leaving
            pods = [{"name": here, **attrs.asdict(own)}, *pods]
        return {**fleet, "at": time.time(), "here": here, "pods": pods}

    async def publish(self, asked: Mapping[str, Any]) -> Mapping[str, object]:
        """Publish an event from here; return how many of this gateway's clients took it.

        Raises:
            OrderError: It is no JSON.
        """
        target, text = read_target(asked), str(asked.get("text", ""))
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            raise OrderError('an event is JSON: {"kind":"ready"}, or "a text" in quotes') from None
        return {"delivered": await self._backplane.publish_json(target, text.encode())}

    async def kick(self, asked: Mapping[str, Any]) -> Mapping[str, object]:
        """Close the sockets of a target, on every pod; return how many, and which pods have not answered.

        Raises:
            OrderError: It is no target.
        """
        target = read_target(asked)
        answers = await self._backplane.fleet.close(target, code=KICKED, reason="kicked by an administrator")
        self._asked_at = float("-inf")  # who does it wants to see it
        return {"closed": answers.total, "missing": sorted(it.pod for it in answers.missing)}

    async def _ask_fleet(self) -> Mapping[str, Any]:
        async with self._turn:
            if time.monotonic() - self._asked_at > FRESH_S:
                self._fleet = await self._question()
                self._asked_at = time.monotonic()
        return self._fleet

    async def _question(self) -> Mapping[str, Any]:
        fleet = self._backplane.fleet
        try:
            pods, presence = await asyncio.gather(
                fleet.pods(timeout_s=ASK_S), fleet.presence(Target.everyone(), timeout_s=ASK_S)
            )
        except BackplaneError as error:
            return {"pods": [], "present": [], "present_total": 0, "missing": [str(error)]}
        shown = sorted(presence.present)[:MOST_PRESENT]
        return {
            "pods": [
                {"name": name, "state": it.state, "connections": it.connections, "version": it.version}
                for name, it in sorted(pods.by_pod.items())
            ],
            "present": [
                {"name": key, "pods": sorted(pod for pod, held in presence.by_pod.items() if key in held)}
                for key in shown
            ],
            "present_total": presence.total,
            "missing": sorted({it.pod for it in (*pods.missing, *presence.missing)}),
        }

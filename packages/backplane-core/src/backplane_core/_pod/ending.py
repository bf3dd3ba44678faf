"""How a pod's parts end once its link is gone."""

from __future__ import annotations

from backplane_core._fleet.asker import BusAsker
from backplane_core._fleet.greeting import Greeting
from backplane_core._fleet.roll_calls import RollCalls
from backplane_core._inbound.receiver import Receiver
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._jobs.desk import JobDesk
from backplane_core._local.registry import Registry
from backplane_core._local.states import States
from backplane_core._outbound.sender import Sender
from backplane_core._presence.driver import PresenceDriver

__all__ = ["Ending"]


class Ending:
    """How a pod's parts end once its link is gone: connections end, and what was not sent is counted."""

    def __init__(
        self,
        *,
        states: States,
        registry: Registry,
        sender: Sender,
        subscriptions: Subscriptions,
        receiver: Receiver,
        asker: BusAsker,
        roll_calls: RollCalls,
        presence: PresenceDriver,
        greeting: Greeting,
        desk: JobDesk | None,
    ) -> None:
        self._states = states
        self._registry = registry
        self._sender = sender
        self._subscriptions = subscriptions
        self._receiver = receiver
        self._asker = asker
        self._roll_calls = roll_calls
        self._presence = presence
        self._greeting = greeting
        self._desk = desk

    def end(self, reason: str) -> None:
        """End all of it; the state is `closed` then."""
        if self._desk is not None:
            self._desk.close()
        self._sender.close()
        self._subscriptions.lost()
        self._receiver.close()
        self._asker.close()
        self._greeting.close()
        self._roll_calls.close()
        self._presence.close()
        self._registry.detach_all()
        self._states.enter("closed", reason)

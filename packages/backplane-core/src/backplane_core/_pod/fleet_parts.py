"""What a pod on a bus asks, and answers, the others with."""

from __future__ import annotations

from typing import Final, Self

from attrs import frozen

from backplane_core._fleet.asker import BusAsker
from backplane_core._fleet.company import FleetCompany
from backplane_core._fleet.greeting import Greeting
from backplane_core._fleet.members import Members
from backplane_core._fleet.own_part import OwnPart
from backplane_core._fleet.post import FleetPost
from backplane_core._fleet.roll_calls import RollCalls
from backplane_core._outbound.sender import Sender
from backplane_core._presence.driver import PresenceDriver
from backplane_core._presence.pod_presence import PresenceSettings
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._protocol.peers import Peers
from backplane_core._protocol.routing import Routing
from backplane_core._runtime.system import System
from backplane_core.options import Settings

__all__ = ["FleetParts"]

TTL_PROBES: Final = 3
"""Probe intervals of silence after which a pod is no longer a member, unless `member_ttl_s` says otherwise: each pod
beats once in one, and two beats may be lost with a link."""


@frozen
class FleetParts:
    """The parts, wired.

    Args:
        members: The other pods.
        asker: Asks them.
        presence: Says and hears who is present.
        post: Takes what they say, and answers.
        greeting: Says hello to them.
    """

    members: Members
    asker: BusAsker
    presence: PresenceDriver
    post: FleetPost
    greeting: Greeting

    @classmethod
    def of(  # noqa: PLR0917 -- one caller
        cls,
        own: OwnFrames,
        pod_name: str,
        settings: Settings,
        own_part: OwnPart,
        routing: Routing,
        peers: Peers,
        sender: Sender,
        heartbeat: Heartbeat,
        system: System,
    ) -> Self:
        """Return the parts for one pod."""
        ttl_s = settings.member_ttl_s or TTL_PROBES * settings.probe_interval_s
        members = Members(ttl_s, settings.probe_interval_s + 2 * heartbeat.tick_s)
        asker = BusAsker(own.origin, pod_name, members, peers, sender, routing)
        presence = PresenceDriver(
            own.origin,
            own_part.registry,
            FleetCompany(members, sender),
            system,
            PresenceSettings(
                linger_s=settings.presence_linger_s, lease_s=ttl_s, remote_control=settings.remote_control
            ),
        )
        greeting = Greeting(sender, heartbeat, asker, system, hears=heartbeat.hears)
        post = FleetPost(
            members=members,
            asker=asker,
            responder=own_part.responder,
            roll_calls=RollCalls(own_part.registry, own_part.orders, routing, sender),
            presence=presence,
            shared=routing.shared,
            greeting=greeting,
            sender=sender,
            remote_control=settings.remote_control,
            hears=heartbeat.hears,
        )
        return cls(members, asker, presence, post, greeting)

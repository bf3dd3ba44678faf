"""The other pods, as presence sees them: `FleetCompany`."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from backplane_core._fleet.members import Members
from backplane_core._outbound.sender import Sender
from backplane_core._presence.driver import Company
from backplane_core._protocol.fleet_frame import LEVEL, Saying, encode_saying
from backplane_core._protocol.presence_frame import PresenceSaying

__all__ = ["FleetCompany"]


@frozen
class FleetCompany(Company):
    """The pods of the fleet.

    Args:
        fleet_members: Knows them.
        sender: Takes what is said to them.
    """

    _fleet_members: Members
    _sender: Sender

    def say(self, saying: PresenceSaying) -> bool:
        """Say something to them; False if there is no room for it now."""
        return self._sender.say(encode_saying(Saying(LEVEL, presence=saying)))

    def members(self) -> Mapping[str, bool]:
        """Return those that are members, by origin, and whether each can answer."""
        present = self._fleet_members.present()
        return {member.origin: member.level is not None and member.level >= LEVEL for member in present}

    @property
    def is_settled(self) -> bool:
        """Whether every pod that lives is known."""
        return self._fleet_members.is_settled

    def surveyed(self) -> None:
        """Record that every pod was given time to answer."""
        self._fleet_members.surveyed()

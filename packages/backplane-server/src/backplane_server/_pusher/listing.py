"""`GET /apps/ID/channels…`: which channels are occupied and by whom, asked of all pods."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import define, field
from backplane_core import Answers, BackplaneError, BaseBackplane, Target

from backplane_server._pusher.answers import Problem
from backplane_server._pusher.names import Channel, directory_target

__all__ = ["Listing"]

USER_COUNT: Final = "user_count"
SUBSCRIPTION_COUNT: Final = "subscription_count"
PRESENCE: Final = "presence-"
ASKED_AT_ONCE: Final = 16
"""Questions that the fleet is asked at once."""
MOST_COUNTED: Final = 1_000
"""Channels of one answer whose users are counted: each is a question to all pods."""


@define(kw_only=True)
class Listing:
    """Asks the fleet for the channels of an app.

    What pods have not answered is named in `missing`: no answer is shown as whole that is not.

    Args:
        backplane: Which asks.
        app_id: Whose channels they are.
    """

    backplane: BaseBackplane
    app_id: str
    _missing: dict[str, None] = field(factory=dict[str, None], init=False)

    async def channels(self, prefix: str, info: str) -> object:
        """Return the occupied channels.

        Args:
            prefix: Of their names.
            info: Empty, or `user_count`, of presence channels alone.

        Raises:
            Problem: This can't be asked, or not now.
        """
        wanted = _wanted(info)
        if wanted - {USER_COUNT} or (wanted and not prefix.startswith(PRESENCE)):
            raise Problem(400, f"info is {USER_COUNT}, with a filter_by_prefix that begins with {PRESENCE}")
        present = await self._present(directory_target(self.app_id))
        names = sorted(name for name in present if name.startswith(prefix))
        if wanted and len(names) > MOST_COUNTED:
            raise Problem(400, f"the users of {MOST_COUNTED} channels are counted at most: take a longer prefix")
        channels = [Channel(self.app_id, name) for name in names]
        nothing: Mapping[str, object] = {}
        found = await self.describe(channels, info) if wanted else dict.fromkeys(names, nothing)
        return self.with_missing({"channels": found})

    async def channel(self, channel: Channel, info: str) -> object:
        """Return whether a channel is occupied, and what else is asked of it.

        Args:
            channel: Which.
            info: `user_count` and `subscription_count`, separated by commas; or empty.

        Raises:
            Problem: This can't be asked, or not now.
        """
        self.check_info([channel], info)
        count = await self._count(channel)
        found = await self._describe(channel, _wanted(info) - {SUBSCRIPTION_COUNT})
        if SUBSCRIPTION_COUNT in _wanted(info):
            found[SUBSCRIPTION_COUNT] = count
        return self.with_missing({"occupied": count > 0, **found})

    async def users(self, channel: Channel) -> object:
        """Return those who are in a presence channel.

        Args:
            channel: Which.

        Raises:
            Problem: It is no presence channel, or they can't be asked for now.
        """
        if not channel.is_presence:
            raise Problem(400, "users are listed of presence channels alone")
        return self.with_missing({"users": [{"id": key} for key in await self._present(channel.target)]})

    def check_info(self, channels: Iterable[Channel], info: str) -> None:
        """Raise a `Problem` if this can't be asked of these channels."""
        if _wanted(info) - {USER_COUNT, SUBSCRIPTION_COUNT}:
            raise Problem(400, f"info is {USER_COUNT} or {SUBSCRIPTION_COUNT}")
        if USER_COUNT in _wanted(info) and not all(channel.is_presence for channel in channels):
            raise Problem(400, f"{USER_COUNT} is known of presence channels alone")

    async def describe(self, channels: Sequence[Channel], info: str) -> Mapping[str, Mapping[str, object]]:
        """Return what is asked of each of these channels, by name.

        Raises:
            Problem: It can't be asked now.
        """
        found: dict[str, Mapping[str, object]] = {}
        for start in range(0, len(channels), ASKED_AT_ONCE):
            part = channels[start : start + ASKED_AT_ONCE]
            answers = await asyncio.gather(*[self._describe(channel, _wanted(info)) for channel in part])
            found |= dict(zip([channel.name for channel in part], answers, strict=True))
        return found

    async def _describe(self, channel: Channel, wanted: set[str]) -> dict[str, object]:
        found: dict[str, object] = {}
        if USER_COUNT in wanted:
            found[USER_COUNT] = len(await self._present(channel.target))
        if SUBSCRIPTION_COUNT in wanted:
            found[SUBSCRIPTION_COUNT] = await self._count(channel)
        return found

    async def _count(self, channel: Channel) -> int:
        try:
            answers = await self.backplane.fleet.count(channel.target)
        except BackplaneError as error:
            raise Problem(503, str(error)) from None
        self._note(answers)
        return answers.total

    async def _present(self, target: Target) -> Mapping[str, object]:
        try:
            answers = await self.backplane.fleet.presence(target)
        except BackplaneError as error:
            raise Problem(503, str(error)) from None
        self._note(answers)
        return answers.present

    def _note(self, answers: Answers[Any]) -> None:
        for missing in answers.missing:
            self._missing[missing.pod] = None

    def with_missing(self, found: Mapping[str, object]) -> object:
        """Return an answer, with the pods that had no part in it."""
        return {**found, "missing": list(self._missing)} if self._missing else found


def _wanted(info: str) -> set[str]:
    return {part.strip() for part in info.split(",") if part.strip()}

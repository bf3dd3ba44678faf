"""What channels are called, what that says of them, and which target each is: `Channel`."""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen
from backplane_core import Target

__all__ = [
    "MOST_CHARACTERS",
    "Channel",
    "channel_named",
    "channel_of",
    "directory_target",
    "event_name_problem",
    "user_target",
]

NAME: Final = re.compile(r"(?:#server-to-user-)?[A-Za-z0-9_=@,.;-]{1,200}", re.ASCII)
MOST_CHARACTERS: Final = 200
"""Of a channel's name and of an event's, as Pusher's SDKs have it."""
TO_USER: Final = "#server-to-user-"
KIND: Final = "pusher"
"""The kind of the targets that are channels: `pusher:APP:CHANNEL`. An app's id has no colon, so no two apps meet."""
RESERVED: Final = ("pusher:", "pusher_internal:")


@frozen
class Channel:
    """A channel of an app.

    Args:
        app_id: Whose it is.
        name: Its name, which says what it is.
    """

    app_id: str
    name: str

    @property
    def target(self) -> Target:
        """The target of those who are subscribed."""
        return Target(KIND, f"{self.app_id}:{self.name}")

    @property
    def is_presence(self) -> bool:
        """Whether those who are subscribed see each other."""
        return self.name.startswith("presence-")

    @property
    def is_private(self) -> bool:
        """Whether a signature of the app is needed to subscribe."""
        return self.is_presence or self.name.startswith("private-")

    @property
    def is_encrypted(self) -> bool:
        """Whether its data is encrypted by the app, so that no client may send any."""
        return self.name.startswith("private-encrypted-")

    @property
    def is_cache(self) -> bool:
        """Whether who subscribes gets its last event."""
        return self.name.startswith(("cache-", "private-cache-", "private-encrypted-cache-", "presence-cache-"))

    @property
    def user_id(self) -> str | None:
        """The user that it belongs to; None: it is open to others."""
        return self.name.removeprefix(TO_USER) if self.name.startswith(TO_USER) else None


def channel_named(app_id: str, name: str) -> Channel | None:
    """Return the channel of this name; None: no channel can have it."""
    is_fine = len(name) <= MOST_CHARACTERS and NAME.fullmatch(name) is not None
    return Channel(app_id, name) if is_fine else None


def channel_of(target: Target | None) -> str | None:
    """Return the name of the channel that a target is; None: it is none."""
    if target is None or target.kind != KIND:
        return None
    return target.id.partition(":")[2] or None


def user_target(app_id: str, user_id: str) -> Target:
    """Return the target of the sockets that have signed in as a user of an app."""
    return Target("pusher_user", f"{app_id}:{user_id}")


def directory_target(app_id: str) -> Target:
    """Return the target in which the occupied channels of an app are present, each under its name."""
    return Target("pusher_app", app_id)


def event_name_problem(name: str) -> str | None:
    """Return what is wrong with the name of an event that an app sends; None: nothing."""
    if not 0 < len(name) <= MOST_CHARACTERS:
        return f"an event's name has 1 to {MOST_CHARACTERS} characters"
    return "names with pusher: are the protocol's own" if name.startswith(RESERVED) else None

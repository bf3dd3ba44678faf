"""Where messages go: groups and channels as targets."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from backplane_core import Target

from backplane_channels.errors import NormalChannelError

__all__ = ["channel_target", "group_target"]

GROUP_KIND: Final = "channels_group"
MAX_NAME_LENGTH: Final = 100
"""As Channels has it: a name is shorter."""
RULE: Final = (
    "{} name must be a valid unicode string with length < {} containing only ASCII alphanumerics, hyphens, "
    "underscores, or periods."
)

_CHANNEL: Final = re.compile(r"[a-zA-Z\d\-_.]+(![\w\-.]*)?")
_GROUP: Final = re.compile(r"[a-zA-Z\d\-_.]+")


@lru_cache(maxsize=4096)
def group_target(group: str) -> Target:
    """Return the target of a group.

    Raises:
        TypeError: It is no name of a group.
    """
    return Target(GROUP_KIND, _checked(group, _GROUP, "Group"))


def channel_target(channel: str) -> Target:
    """Return the target of one consumer.

    Raises:
        TypeError: It is no name of a channel.
        NormalChannelError: It has no `!`.
    """
    plain = _checked(channel, _CHANNEL, "Channel")
    if "!" not in plain:
        raise NormalChannelError(plain)
    return Target.connection(plain)


def _checked(name: object, form: re.Pattern[str], what: str) -> str:
    if not isinstance(name, str) or len(name) >= MAX_NAME_LENGTH or not form.fullmatch(name):
        raise TypeError(RULE.format(what, MAX_NAME_LENGTH))
    return str.__str__(name)

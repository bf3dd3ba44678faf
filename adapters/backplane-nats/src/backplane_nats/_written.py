"""What was written to a server in one go and is not confirmed yet, and what of it the server denied: `Written`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from attrs import define, field
from backplane_core import Frame, Refusal
from backplane_core.sockets import Confirmation

from backplane_nats._subjects import to_subject

__all__ = ["Denial", "Written", "parse_denial"]

Command: TypeAlias = Literal["publish", "subscribe", "unsubscribe"]
Denial: TypeAlias = tuple[Command, str]
"""A command and the subject that it was denied for."""

_DENIAL: Final = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]+)\"", re.IGNORECASE)


def parse_denial(text: str) -> Denial | None:
    """Return what a server's error denies; None if it is another error."""
    found = _DENIAL.search(text)
    if found is None:
        return None
    return "publish" if found[1].lower() == "publish" else "subscribe", found[2]


@define(eq=False)
class Written:
    """Commands with a PING behind them.

    The server works through a connection's commands in order, so what it denies between two PONGs belongs to what was
    written between their PINGs. Say three frames to `a`, `b` and `a` were written, and `a` is denied: the server sends
    two errors, which name `a`, and the PONG. So the first and the third frame are refused, and the second was taken.

    Args:
        confirmation: True once the PONG is there, False if the link dies first.
        command: What was written, once per item.
        items: Its channels or frames.
        refused: What the server denied.
    """

    confirmation: Confirmation
    command: Command
    items: Sequence[str | Frame] = field(repr=False)
    refused: Sequence[Refusal] = field(default=(), repr=False)
    # Denied subjects, as the server wrote them.
    _denied: dict[str, None] | None = field(default=None, init=False, repr=False)

    def set_result(self, result: bool) -> None:  # noqa: FBT001 -- nats-py's own: this stands among the PONGs it awaits
        """Take the PONG."""
        self.confirmation.set(result)

    def deny(self, denial: Denial, *, in_lower_case: bool) -> Sequence[str]:
        """Take a denial; return the channels of these commands that it is about, none if it is about none.

        Args:
            denial: What was denied.
            in_lower_case: Whether nats-py has put the subject into lower case.
        """
        command, subject = denial
        if command != self.command:
            return ()
        if self._denied is not None and subject in self._denied:  # one error per frame
            return [subject]
        channels = {item if isinstance(item, str) else item[0] for item in self.items}
        subjects = {channel: to_subject(channel) for channel in channels}
        found = [
            channel
            for channel in channels
            if (subjects[channel].lower() if in_lower_case else subjects[channel]) == subject
        ]
        if found:
            self._denied = self._denied or {}
            self._denied[subject] = None
            self.refused = [*self.refused, *self._refusals(found)]
        return found

    def _refusals(self, channels: Sequence[str]) -> list[Refusal]:
        refusals: list[Refusal] = []
        for index, item in enumerate(self.items):
            channel = item if isinstance(item, str) else item[0]
            if channel in channels:
                root = to_subject(channel.partition(":@")[0])
                reason = (
                    f"this user may not {self.command} {'to' if self.command == 'subscribe' else 'on'} "
                    f'"{to_subject(channel)}": grant publish and subscribe for "{root}" and "{root}.>"'
                )
                refusals.append(Refusal(index=index, reason=reason, is_denied=True))
        return refusals

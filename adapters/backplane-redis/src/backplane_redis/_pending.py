"""A caller that waits for replies: `PendingReply`."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field
from backplane_core import Frame, Refusal
from backplane_core.sockets import Confirmation

__all__ = ["PendingReply"]


@define(eq=False)
class PendingReply:
    """A caller that waits for the replies to what it wrote in one go.

    Args:
        total: How many replies the link will have counted, since it was opened, once the last of these has come.
        command: What was written, once per operand.
        operands: Its channels or frames, one reply each.
        confirmation: True once all replies are there, False if the link dies first.
        written_at: `time.monotonic()` when it was handed to the socket, in seconds.
        is_one_command: Whether all operands stand in one command, which is refused as a whole.
        moved: Operands that another node serves by now, and the rest of its MOVED error; in a cluster alone.
        refused: Operands that the server refused, by their place.
        ends_link: Whether the link died of the last refusal.
    """

    total: int
    command: str
    operands: Sequence[str | Frame] = field(repr=False)
    confirmation: Confirmation
    written_at: float
    is_one_command: bool = False
    moved: list[tuple[str | Frame, str]] = field(factory=list[tuple[str | Frame, str]], repr=False)
    refused: list[Refusal] = field(factory=list[Refusal], repr=False)
    ends_link: bool = False

    @property
    def largest(self) -> int:
        """The size of its largest frame, in bytes; 0 if it has none."""
        return max([0 if isinstance(operand, str) else len(operand[1]) for operand in self.operands], default=0)

"""What a client may say to its socket: subscribe, unsubscribe, ping."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from attrs import define, field
from backplane_core import BackplaneError, BaseBackplane, InvalidTargetError, Target

from backplane_asgi._sockets.budget import Budget
from backplane_asgi._sockets.outbound import Ending, Outbound
from backplane_asgi.access import Grant

__all__ = ["MAX_TARGETS", "Commands"]

MAX_BYTES: Final = 4096
"""Of one message: a target's id takes at most 1,024 bytes."""
MAX_TARGETS: Final = 128
"""That one client may subscribe to by itself."""

TOO_LARGE: Final = Ending(1009, f"a message may have {MAX_BYTES} bytes")
TOO_MANY: Final = Ending(1008, "too many messages")


class Command(msgspec.Struct):
    """What a client says; other members are ignored."""

    backplane: str
    target: str = ""


_decode: Final = msgspec.json.Decoder(Command).decode


@define
class Commands:
    """The commands of one client. What is no command is for nobody, and ignored.

    Args:
        backplane: Where it is attached.
        outbound: Its socket.
        grant: What it may do.
    """

    _backplane: BaseBackplane
    _outbound: Outbound
    _grant: Grant
    _budget: Budget = field(factory=Budget)

    def admits(self, message: Any, now: float) -> bool:  # noqa: ANN401 -- an ASGI message
        """Return whether a message is small enough, and not one too many; if not, the socket is being closed."""
        data = message.get("text") or message.get("bytes") or ""
        if len(data) > MAX_BYTES:
            self._outbound.finish(TOO_LARGE)
            return False
        if not self._budget.admits(now):
            self._outbound.finish(TOO_MANY)
            return False
        return True

    async def take(self, text: str) -> None:
        """Do what a message says, and answer it."""
        try:
            command = _decode(text)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return
        match command.backplane:
            case "ping":
                self._answer(backplane="pong")
            case "subscribe":
                await self._subscribe(command.target)
            case "unsubscribe":
                await self._unsubscribe(command.target)
            case _:
                return

    async def _subscribe(self, text: str) -> None:
        try:
            target = Target.parse(text)
            held = self._backplane.targets_of(self._outbound.conn_id)
            if target not in self._grant.may_subscribe:
                self._answer(backplane="refused", target=text, reason="not allowed")
            elif target not in held and len(held) >= MAX_TARGETS + len(self._grant.targets):
                self._answer(backplane="refused", target=text, reason=f"at most {MAX_TARGETS} targets")
            else:
                await self._backplane.associate(self._outbound.conn_id, target)
                self._answer(backplane="subscribed", target=text)
        except InvalidTargetError:
            self._answer(backplane="refused", target=None, reason="not a target: kind:id")
        except BackplaneError:  # it is closing, or the broker refuses
            self._answer(backplane="refused", target=text, reason="not now")

    async def _unsubscribe(self, text: str) -> None:
        try:
            target = Target.parse(text)
        except InvalidTargetError:
            self._answer(backplane="refused", target=None, reason="not a target: kind:id")
            return
        if target not in self._grant.targets:
            await self._backplane.dissociate(self._outbound.conn_id, target)
        self._answer(backplane="unsubscribed", target=text)

    def _answer(self, **answer: object) -> None:
        self._outbound.put_control(msgspec.json.encode(answer))

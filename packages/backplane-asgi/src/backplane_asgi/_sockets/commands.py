"""What a client may say to its socket: subscribe, unsubscribe, ping, renew."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from attrs import define, field
from backplane_core import InvalidTargetError, Target

from backplane_asgi._sockets.budget import Budget
from backplane_asgi._sockets.endings import Ending
from backplane_asgi._sockets.outbound import Outbound
from backplane_asgi._sockets.renewal import Renewal
from backplane_asgi._sockets.subscriptions import Subscriptions

__all__ = ["Commands"]

MAX_BYTES: Final = 8192
"""Of one message: a token that proxies let through in a header. A target's id takes at most 1,024 bytes."""

TOO_LARGE: Final = Ending(1009, f"a message may have {MAX_BYTES} bytes")
TOO_MANY: Final = Ending(1008, "too many messages")


class Command(msgspec.Struct):
    """What a client says; other members are ignored."""

    backplane: str
    target: str = ""
    token: str = ""

    def __repr__(self) -> str:
        """Return nothing of what is in it: a token may be."""
        return "<Command>"


_decode: Final = msgspec.json.Decoder(Command).decode


@define
class Commands:
    """The commands of one client. What is no command is for nobody, and ignored.

    Args:
        outbound: Its socket.
        subscriptions: What it hears.
        renewal: Takes its fresh tokens.
    """

    _outbound: Outbound
    _subscriptions: Subscriptions
    _renewal: Renewal
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

    async def take(self, text: str, now: float) -> None:
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
            case "grant":
                self._answer(backplane="granted", expires_in_s=self._renewal.left_s)
            case "renew":
                await self._renew(command.token, now)
            case _:
                return

    async def _subscribe(self, text: str) -> None:
        try:
            refusal = await self._subscriptions.add(Target.parse(text))
        except InvalidTargetError:
            self._answer(backplane="refused", target=None, reason="not a target: kind:id")
            return
        if refusal is None:
            self._answer(backplane="subscribed", target=text)
        else:
            self._answer(backplane="refused", target=text, reason=refusal)

    async def _unsubscribe(self, text: str) -> None:
        try:
            target = Target.parse(text)
        except InvalidTargetError:
            self._answer(backplane="refused", target=None, reason="not a target: kind:id")
            return
        await self._subscriptions.remove(target)
        self._answer(backplane="unsubscribed", target=text)

    async def _renew(self, token: str, now: float) -> None:
        lost = await self._renewal.renew(token, now)
        if lost is not None:
            for target in lost:
                self._answer(backplane="refused", target=target.text, reason="no longer allowed")
            self._answer(backplane="granted", expires_in_s=self._renewal.left_s)

    def _answer(self, **answer: object) -> None:
        self._outbound.put_control(msgspec.json.encode(answer))

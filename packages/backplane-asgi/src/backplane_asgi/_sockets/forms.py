"""How the events of a protocol look, built once per event and pod for all of its sockets: `SocketForm`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from backplane_core import Event

from backplane_asgi._sockets.encoding import Encoding, FrameEncoding, MessageEncoding

__all__ = ["SocketForm", "encoding_of"]


class SocketForm(ABC):
    """How events look to the clients of a protocol. Make one for all sockets: each event is built once for them.

    Override `event_json`.
    """

    def __init__(self) -> None:
        self._frames = _Frames(self)
        self._messages = _Messages(self)

    @abstractmethod
    def event_json(self, event: Event) -> bytes:
        """Return the text message that carries an event, as UTF-8.

        Args:
            event: What was published. It must not raise, whatever the event is: anybody may publish it.
        """


class _Frames(FrameEncoding):
    """WebSocket frames with the events of a form."""

    __slots__ = ("_form",)

    def __init__(self, form: SocketForm) -> None:
        super().__init__()
        self._form = form

    def event_item(self, event: Event) -> bytes:
        """Return the event's frame."""
        return self.control_item(self._form.event_json(event))


class _Messages(MessageEncoding):
    """ASGI messages with the events of a form."""

    __slots__ = ("_form",)

    def __init__(self, form: SocketForm) -> None:
        super().__init__()
        self._form = form

    def event_item(self, event: Event) -> dict[str, Any]:
        """Return the event's message."""
        return self.control_item(self._form.event_json(event))


def encoding_of(form: SocketForm, *, takes_frames: bool) -> Encoding:
    """Return what encodes the events of one socket.

    Args:
        form: How they look.
        takes_frames: Whether its server takes ready frames.
    """
    # Not for those who write forms, which are public.
    return form._frames if takes_frames else form._messages  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

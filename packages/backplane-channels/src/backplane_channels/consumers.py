"""What a consumer can do about a gap."""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["ClosesOnGap"]


class ClosesOnGap:
    """Closes the WebSocket of a consumer that may have missed messages, so that its client reconnects and reloads.

        class ChatConsumer(ClosesOnGap, AsyncWebsocketConsumer): ...

    It goes with `"on_gap": "backplane.gap"` in the layer's `CONFIG`, and with Channels' synchronous consumers as well.
    """

    gap_close_code: ClassVar[int] = 4012
    """The WebSocket's close code. Daphne takes only 1000 and 3000 to 4999 from an application, so it is not 1012 ("the
    service restarts"), which other servers take."""

    def backplane_gap(self, message: dict[str, Any]) -> Any:  # noqa: ANN401, ARG002 -- what `close` returns: a coroutine, or None
        """Close the WebSocket.

        Args:
            message: The gap.
        """
        consumer: Any = self
        return consumer.close(code=self.gap_close_code)

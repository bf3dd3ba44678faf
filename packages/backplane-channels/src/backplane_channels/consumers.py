"""A mixin for consumers that may have missed messages: `ClosesOnGap`."""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["ClosesOnGap"]


class ClosesOnGap:
    """Closes the WebSocket of a consumer that may have missed messages, so that its client reconnects and reloads.

        class ChatConsumer(ClosesOnGap, AsyncWebsocketConsumer): ...

    It needs `"on_gap": "backplane.gap"` in the layer's `CONFIG`. It works with Channels' synchronous consumers too.
    """

    gap_close_code: ClassVar[int] = 4012
    """The WebSocket's close code. Not 1012 ("service restart"): Daphne accepts only 1000 and 3000 to 4999 from an
    application."""

    def backplane_gap(self, message: dict[str, Any]) -> Any:  # noqa: ANN401, ARG002 -- what `close` returns: a coroutine, or None
        """Close the WebSocket.

        Args:
            message: The message that reports the gap.
        """
        consumer: Any = self
        return consumer.close(code=self.gap_close_code)

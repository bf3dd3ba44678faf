"""`drain_on_signal`: end sockets well before the server stops."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, cast

from backplane_core import BackplaneError, BaseBackplane

from backplane_asgi._sockets.endings import STOPPING
from backplane_asgi._sockets.hub import KINDS, Hub, hub_of

__all__ = ["drain_on_signal"]

CLOSE_S: Final = 5.0
"""How long sockets that are being closed are waited for: as long as one close may take."""

STEP_S: Final = 0.1
"""How often some of the sockets are closed, where they are spread."""


@contextmanager
def drain_on_signal(
    backplane: BaseBackplane,
    *,
    delay_s: float = 0.0,
    spread_s: float = 0.0,
    flush_s: float = 5.0,
    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
) -> Generator[None]:
    """Drain the backplane when the process is asked to stop, and only then let the server have the signal.

        async with connect_from_env() as backplane:
            with drain_on_signal(backplane):
                yield {"backplane": backplane}

    A server that gets the signal first closes all WebSockets at once, by its own code, and waits for ever for streams
    (SSE). With this, readiness says no at once, each WebSocket is closed with the `drain_code` of its endpoint and each
    stream ends, and what was published is sent; then the server's own handler is called. A second signal goes to the
    server at once.

    Args:
        backplane: The backplane.
        delay_s: Seconds between readiness saying no and the first close, for a load balancer to notice. By default 0.
        spread_s: Seconds over which the sockets are closed, so that their clients don't all come back at once: some
            0.5 ms of processor time each. By default 0.
        flush_s: Seconds that sending what was published may take. By default 5.
        signals: The signals. By default SIGTERM and SIGINT.

    Returns:
        A context manager, to be entered in the lifespan of the app, where the server has set its handlers. In another
        thread than the main one, as under a test client, no signal comes, and it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    draining = Draining(backplane, hub_of(backplane), delay_s, spread_s, flush_s)
    for number in signals:
        draining.take_over(number)
    try:
        yield
    finally:
        for number in signals:
            draining.give_back(number)


class Draining:
    """What happens between the signal and the server's own handler."""

    def __init__(self, backplane: BaseBackplane, hub: Hub, delay_s: float, spread_s: float, flush_s: float) -> None:
        self._previous: dict[int, Any] = {}
        # Of those, what the event loop calls: it would do so at once, whatever Python's own handler does.
        self._of_loop: dict[int, object] = {}
        self._backplane = backplane
        self._hub = hub
        self._delay_s = delay_s
        self._spread_s = spread_s
        self._flush_s = flush_s
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._number: int | None = None

    def take_over(self, number: int) -> None:
        """Get a signal from now on."""
        handlers = _handlers_of(self._loop)
        if number in handlers:
            self._of_loop[number] = handlers.pop(number)
        self._previous[number] = signal.signal(number, self.on_signal)

    def give_back(self, number: int) -> None:
        """Let a signal go where it went before, unless another handler has been set since: that one stays."""
        if signal.getsignal(number) == self.on_signal:
            signal.signal(number, self._previous[number])
            if number in self._of_loop:
                _handlers_of(self._loop)[number] = self._of_loop[number]

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal is the server's at once."""
        if self._number is not None or self._loop.is_closed():
            self._pass_on(number, frame)
            return
        self._number = number
        self._loop.call_soon_threadsafe(self._start, number)

    def _start(self, number: int) -> None:
        self._hub.is_stopping = True
        self._task = self._loop.create_task(self._drain(number), name="backplane: drain on signal")

    async def _drain(self, number: int) -> None:
        try:
            await asyncio.sleep(self._delay_s)
            await self._close_some_by_some()
            with suppress(TimeoutError, BackplaneError):
                await self._backplane.drain(timeout_s=self._flush_s)
            await self._see_them_closed()
        finally:
            self._pass_on(number, None)

    async def _close_some_by_some(self) -> None:
        """Close the sockets evenly over the time; those that come meanwhile are left to the drain."""
        sockets = [socket for kind in KINDS for socket in self._hub.open[kind]]
        steps = max(1, round(self._spread_s / STEP_S))
        for step in range(steps if self._spread_s else 0):
            for socket in sockets[step::steps]:
                socket.finish(STOPPING)
            await asyncio.sleep(STEP_S)

    async def _see_them_closed(self) -> None:
        """Return once the endpoints have closed all sockets: a server that stops would leave them without a code."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._hub.wait_empty()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        handler = self._previous.get(number)
        if number in self._of_loop:
            self.give_back(number)
            signal.raise_signal(number)
        elif callable(handler):
            handler(number, frame)
        elif handler == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def _handlers_of(loop: asyncio.AbstractEventLoop) -> dict[int, object]:
    """Return what `loop.add_signal_handler` has set, as hypercorn does. asyncio shows it to nobody; uvloop hides it."""
    handlers = getattr(loop, "_signal_handlers", None)
    return cast("dict[int, object]", handlers) if isinstance(handlers, dict) else {}

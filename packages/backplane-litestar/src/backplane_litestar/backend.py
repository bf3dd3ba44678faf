"""`BackplaneChannelsBackend`: Litestar's channels over a backplane."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Final, Unpack

from backplane_core import (
    AdapterNotInstalledError,
    BackplaneError,
    BaseBackplane,
    ConfigurationError,
    Connecting,
    ConnectOptions,
    EventEncodeError,
    TransportError,
    connect,
)
from litestar.channels import ChannelsBackend

from backplane_litestar._frames import is_plain, unwrap, wrap
from backplane_litestar._stream import Stream, target_of

__all__ = ["BackplaneChannelsBackend"]

MAX_CHANNELS: Final = 2_048
"""Channels of one frame: as many targets as a union may have."""
START_S: Final = 5.0
"""Seconds for which a start waits for the broker, unless `connect_timeout_s` says otherwise: its default."""
MAX_HISTORY: Final = 1_000
"""Messages of a channel's history at most: more than a page shows, and little memory for each client that comes."""
QUEUE_TASK: Final = "_pub_worker"
"""The coroutine of the plugin that publishes what `ChannelsPlugin.publish` has queued."""

NOT_STARTED: Final = "Backend not yet initialized. Did you forget to call on_startup?"
NO_HISTORY: Final = "this bus keeps no history: a URL of redis+streams:// or nats+jetstream:// has one"
PINNED: Final = (
    "; install 'backplane-litestar[redis]' or 'backplane-litestar[nats]' next to plain litestar, "
    "as litestar[redis] allows redis<5.3 and backplane-redis needs 6.2 or newer"
)

logger: Final = logging.getLogger("backplane_litestar")


class BackplaneChannelsBackend(ChannelsBackend):
    """A back-end for Litestar's `ChannelsPlugin`: what one process publishes, the subscribers of all get.

        backend = BackplaneChannelsBackend("redis://localhost:6379")
        channels = ChannelsPlugin(backend, channels=["chat"])

    Args:
        url: As `connect` takes it. It is opened when the app starts, and closed when the app stops.
        backplane: One that is open when the app starts, in place of `url`. It stays its owner's to close.
        gap: What subscribers get where messages may be missing, in its place among them, such as
            `b'{"type":"reload"}'`. By default None: they get nothing, and the log warns.
        options: As `connect` takes them. `wait` is False by default: the app starts also while the broker is away.

    Raises:
        ConfigurationError: Neither `url` nor `backplane` is given, or both, or an option is wrong.
        AdapterNotInstalledError: No installed adapter serves the URL; says what to install.

    Delivery: to subscribers of this process at once, to those of others in order per publishing process, never twice.
        What may be missing is reported by `gap`, or counted at the sender.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        backplane: BaseBackplane | None = None,
        gap: bytes | None = None,
        **options: Unpack[ConnectOptions],
    ) -> None:
        if (url is None) == (backplane is None):
            raise ConfigurationError("give a URL or backplane=, one of the two")
        if backplane is not None and options:
            raise ConfigurationError(f"these go with a URL, a backplane has its own: {', '.join(options)}")
        if gap is not None and type(gap) is not bytes:
            raise ConfigurationError(f"gap must be bytes, not {type(gap).__name__}")
        self._url = url
        self._options = options
        self._given = backplane
        if url is not None:
            self._connecting(url)  # so that a mistake shows where it was made
        self._gap = gap
        self._stream = Stream(gap)
        self._backplane: BaseBackplane | None = None
        self._is_starting = False
        self._stack = AsyncExitStack()
        self._unsent = 0

    def __repr__(self) -> str:
        backplane = self._backplane
        return f"<BackplaneChannelsBackend, {'not started' if backplane is None else repr(backplane)}>"

    @property
    def backplane(self) -> BaseBackplane:
        """What it runs on, for `ready()`, `stats()`, `flush()` and the fleet.

        Raises:
            RuntimeError: The app has not started, or has stopped.
        """
        if self._backplane is None:
            raise RuntimeError(NOT_STARTED)
        return self._backplane

    @property
    def unsent(self) -> int:
        """How many messages of `ChannelsPlugin.publish` could not be sent: too large, or a channel's name is.

        That call has returned by then, so each is logged. `wait_published` raises instead.
        """
        return self._unsent

    async def on_startup(self) -> None:
        """Open the backplane, and wait for the broker for `connect_timeout_s`; a no-op if it is open.

        Raises:
            BackplaneError: With `wait=True`: see `connect`. Otherwise the app starts, and goes live once it can.
            ClosedError: The backplane that was given is closed.
        """
        if self._is_starting or self._backplane is not None:
            return
        self._is_starting = True  # before the first suspension: some versions of the plugin begin to read meanwhile
        try:
            async with AsyncExitStack() as stack:
                backplane = self._given
                if backplane is None:
                    backplane = await stack.enter_async_context(self._connecting(self._url))
                    await self._wait_for_broker(backplane)
                await self._stream.open(backplane)
                self._stack = stack.pop_all()
                self._backplane = backplane
        except BaseException:
            await self._stream.close()
            raise
        finally:
            self._is_starting = False

    async def on_shutdown(self) -> None:
        """End the stream, send what was accepted, and close the backplane, unless it was given; a no-op if not open."""
        self._backplane = None
        stack, self._stack = self._stack, AsyncExitStack()
        await self._stream.close()
        await stack.aclose()

    async def publish(self, data: bytes, channels: Iterable[str]) -> None:
        """Send a message to the subscribers of these channels, in all processes.

        Args:
            data: The message.
            channels: Names, each not empty, at most 1,024 bytes of UTF-8.

        Raises:
            RuntimeError: The app has not started, or has stopped.
            InvalidTargetError: A name is not of that form.
            EventTooLargeError: The message is larger than `max_event_bytes`, or than the broker takes.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ClosedError: The backplane that was given is closed.

        Delivery: if it raises, nobody has received anything. It does not depend on the broker's health: what can't be
            sent is counted, and becomes a gap at the receivers. Called by the plugin's own queue it raises none of
            these but logs and counts (`unsent`), since an error would end that queue without a word.
        """
        backplane = self.backplane
        names = list(dict.fromkeys(channels))
        try:
            await _publish(backplane, data, names)
        except BackplaneError as error:
            if not _is_called_by_queue():
                raise
            self._unsent += 1
            logger.error("a message of %d bytes for %d channels was not sent: %s", len(data), len(names), error)  # noqa: TRY400 -- the trace has nothing more

    async def subscribe(self, channels: Iterable[str]) -> None:
        """Hear these channels; before the start it takes effect then.

        Args:
            channels: Names, each not empty, at most 1,024 bytes of UTF-8.

        Raises:
            InvalidTargetError: A name is not of that form; none was added.
            TargetDeniedError: The broker does not let this process hear a channel; that one was not added.

        Delivery: what other processes publish arrives once the broker has confirmed, which is when this returns; at
            once while the broker is away, and then subscribers get a gap.
        """
        await self._stream.subscribe(channels)

    async def unsubscribe(self, channels: Iterable[str]) -> None:
        """Hear these channels no longer: nothing of them comes after this, not even what is queued."""
        await self._stream.unsubscribe(channels)

    async def stream_events(self) -> AsyncGenerator[tuple[str, bytes]]:
        """Yield each message with its channel, once for each of its channels, until the app stops.

        Raises:
            RuntimeError: The app has not started. It raises nothing else.
        """
        if self._backplane is None and not self._is_starting:
            raise RuntimeError(NOT_STARTED)
        async for message in self._stream.events():
            yield message

    async def get_history(self, channel: str, limit: int | None = None) -> list[bytes]:
        """Return the last messages of a channel, oldest first, on a bus that keeps a log.

        Args:
            channel: Its name.
            limit: Messages at most; never more than 1,000, which is also what None stands for. There may be fewer,
                though there are older ones: at most 20,000 entries of the log are read.

        Returns:
            The messages. If the log can't be read, the gap in their place: an error would leave the subscriber behind
            that asks for them.

        Raises:
            RuntimeError: The app has not started, or has stopped.
            NotImplementedError: The bus keeps no log; says which URLs have one.
            InvalidTargetError: The name is not allowed.
        """
        wanted = min(limit or MAX_HISTORY, MAX_HISTORY)
        try:
            history = await self.backplane.history(target_of(channel), wanted)
        except ConfigurationError:
            raise NotImplementedError(NO_HISTORY) from None
        except TransportError as error:
            logger.warning("the history of a channel could not be read: %s", error)
            return [] if self._gap is None else [self._gap]
        return [unwrapped[1] if (unwrapped := unwrap(event.json)) else event.json for event in history.events]

    def _connecting(self, url: str | None) -> Connecting[BaseBackplane]:
        """Return a backplane that is not open yet: each opens once, and an app may start again."""
        options = ConnectOptions(wait=False)
        options.update(self._options)
        try:
            return connect(url, **options)
        except AdapterNotInstalledError as error:
            raise AdapterNotInstalledError(f"{error}{PINNED}") from None

    async def _wait_for_broker(self, backplane: BaseBackplane) -> None:
        """Return once it is live, or as long as an app may take to start; it goes on trying then."""
        try:
            await backplane.wait_for_state("live", timeout_s=self._options.get("connect_timeout_s", START_S))
        except TimeoutError:
            logger.warning("the app starts without the broker: %s", backplane.ready().reason)


async def _publish(backplane: BaseBackplane, data: bytes, channels: Sequence[str]) -> None:
    """Publish a message as it is, if it is a JSON object for one channel, or else wrapped."""
    if len(channels) == 1 and is_plain(data):
        target = target_of(channels[0])
        try:
            await backplane.publish_json(target, data)
        except EventEncodeError:
            pass  # it only looks like one
        else:
            return
    for start in range(0, len(channels), MAX_CHANNELS):
        part = channels[start : start + MAX_CHANNELS]
        await backplane.publish([target_of(channel) for channel in part], wrap(data, part))


def _is_called_by_queue() -> bool:
    """Return whether the plugin's own task is running, which an error ends: later messages would wait for ever."""
    task = asyncio.current_task()
    return task is not None and getattr(task.get_coro(), "__name__", None) == QUEUE_TASK

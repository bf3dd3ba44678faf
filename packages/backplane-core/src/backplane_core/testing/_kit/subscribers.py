"""The links of a broker in memory, and what each is subscribed to: `Subscribers`."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from backplane_core.errors import TransportError

__all__ = ["Subscribers"]


class Dying(Protocol):
    """A link, seen from its broker."""

    def die(self, reason: str) -> None:
        """Be dead from now on."""
        ...


L = TypeVar("L", bound=Dying)


class Subscribers(Generic[L]):
    """The open links of one broker in memory, and the channels that each is subscribed to."""

    def __init__(self) -> None:
        # Dictionaries for sets that keep their order, or no run would repeat.
        self.links: dict[L, None] = {}
        self.by_channel: dict[str, dict[L, None]] = {}
        self._down = False

    def cut(self, reason: str) -> None:
        """Kill every link, and admit none until `restore`."""
        self._down = True
        for link in list(self.links):
            link.die(reason)

    def restore(self) -> None:
        """Admit links again."""
        self._down = False

    def enter(self, link: L) -> None:
        """Add a link that opens.

        Raises:
            TransportError: The broker is cut.
        """
        if self._down:
            raise TransportError("the memory broker is down")
        self.links[link] = None

    def leave(self, link: L) -> None:
        """Remove a link and its subscriptions."""
        self.links.pop(link, None)
        for channel in list(self.by_channel):
            self.unsubscribe(link, channel)

    def subscribe(self, link: L, channel: str) -> None:
        """Subscribe a link to a channel."""
        self.by_channel.setdefault(channel, {})[link] = None

    def unsubscribe(self, link: L, channel: str) -> None:
        """Unsubscribe a link from a channel; a no-op if it is not subscribed."""
        links = self.by_channel.get(channel, {})
        links.pop(link, None)
        if not links:
            self.by_channel.pop(channel, None)

"""Who may use the door: `PusherApp`, and `Apps` by key and by id."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from attrs import Attribute, field, frozen
from backplane_core import ConfigurationError

__all__ = ["Apps", "PusherApp"]

WORD: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
LEAST_SECRET: Final = 16
"""Characters of a secret: Pusher's own have 20."""
CLIENT_EVENTS: Final = "client-events"
MAX_CONNECTIONS: Final = "max-connections="
FORM: Final = "id:key:secret, and then :client-events or :max-connections=1000"


def _check_word(_: object, attribute: Attribute[str], value: Any) -> None:  # noqa: ANN401 -- callers without a type checker
    if not isinstance(value, str) or not WORD.fullmatch(value):
        raise ConfigurationError(f"{attribute.name} of a Pusher app has 1 to 64 letters, digits, - and _")


def _check_secret(_: object, __: object, value: Any) -> None:  # noqa: ANN401 -- callers without a type checker
    if not isinstance(value, str) or len(value) < LEAST_SECRET or not value.isascii() or not value.isprintable():
        raise ConfigurationError(f"the secret of a Pusher app has at least {LEAST_SECRET} printable ASCII characters")


@frozen(kw_only=True)
class PusherApp:
    """An app as Pusher knows it. Its channels are its own: no other app of the fleet ever meets them.

    Args:
        id: In the paths that servers ask: digits, for most of their SDKs. Apps of the same id share channels, so that
            a new key and secret can take over one client after the other.
        key: What clients connect with; everybody may know it.
        secret: What servers sign with, 16 characters or more.
        client_events: Whether clients may send events to each other.
        max_connections: Clients that this key may have on one gateway; 0: no limit but the gateway's.

    Raises:
        ConfigurationError: One of these is not allowed.
    """

    id: str = field(validator=_check_word)
    key: str = field(validator=_check_word)
    secret: str = field(validator=_check_secret, repr=False)
    client_events: bool = False
    max_connections: int = 0

    @classmethod
    def parse(cls, text: str) -> PusherApp:
        """Return the app that is written as `id:key:secret`, with `:client-events` or `:max-connections=1000` behind.

        Args:
            text: All of it.

        Raises:
            ConfigurationError: It is not of that form.
        """
        parts = [part.strip() for part in text.split(":")]
        padded = [*parts, "", ""]
        id_, key, secret = padded[0], padded[1], padded[2]
        allows_client_events, most = False, 0
        for option in parts[3:]:
            count = option.removeprefix(MAX_CONNECTIONS)
            if option == CLIENT_EVENTS:
                allows_client_events = True
            elif count != option and count.isascii() and count.isdigit():
                most = int(count)
            else:  # what stands there may be part of the secret
                raise ConfigurationError(f"a Pusher app is written as {FORM}")
        if not secret:
            raise ConfigurationError(f"a Pusher app is written as {FORM}")
        return cls(id=id_, key=key, secret=secret, client_events=allows_client_events, max_connections=most)


class Apps:
    """Apps by what requests name.

    Args:
        apps: At least one; no two with the same key.

    Raises:
        ConfigurationError: There is none, or a key stands for two.
    """

    def __init__(self, apps: Iterable[PusherApp]) -> None:
        self._by_key: dict[str, PusherApp] = {}
        for app in apps:
            if app.key in self._by_key:
                raise ConfigurationError(f"two Pusher apps have the key {app.key}")
            self._by_key[app.key] = app
        if not self._by_key:
            raise ConfigurationError("name at least one Pusher app")

    def with_key(self, key: str) -> PusherApp | None:
        """Return the app that a key belongs to; None: it is unknown."""
        return self._by_key.get(key)

    def with_id(self, id: str) -> Sequence[PusherApp]:  # noqa: A002 -- the field's name
        """Return the apps of an id, one for each of its keys; none if it is unknown."""
        return [app for app in self._by_key.values() if app.id == id]

"""A provider of credentials that announces the next token of a user: `Tokens`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen
from redis.credentials import StreamingCredentialProvider

__all__ = ["Tokens"]


@frozen
class Token:
    """As redis-py's own tokens."""

    user: str
    value: str

    def try_get(self, key: str) -> str:
        del key
        return self.user

    def get_value(self) -> str:
        return self.value


@define(eq=False)
class Tokens(StreamingCredentialProvider):
    """The tokens of one user.

    Args:
        user: Its name.
        value: The newest.
    """

    user: str
    value: str = field(repr=False)
    _listener: Callable[[Any], None] | None = None

    def get_credentials(self) -> tuple[str, str]:
        return (self.user, self.value)

    def on_next(self, callback: Callable[[Any], None]) -> None:
        self._listener = callback  # the pod that takes another's place

    def on_error(self, callback: Callable[[Exception], None]) -> None:
        del callback

    def is_streaming(self) -> bool:
        return True

    def announce(self, value: str) -> None:
        """Have another token from now on, and say so."""
        self.value = value
        if self._listener is not None:
            self._listener(Token(self.user, value))

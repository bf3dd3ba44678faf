"""Who should get an event: `Target`."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from attrs import field, frozen

from backplane_core.errors import InvalidTargetError

__all__ = ["Target"]

MAX_ID_BYTES: Final = 1024
"""The longest id in UTF-8 bytes: room for any key people use, small beside an event."""

MAX_KIND_CHARACTERS: Final = 32

_EVERYONE: Final = "everyone"
# Each word starts with a letter, so that `job_status` <-> `JobStatus` is reversible (`job_1` and `job1` would not be).
_KIND: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z][a-z0-9]*)*", re.ASCII)
_encode: Final = msgspec.json.Encoder().encode


def check_id(value: object, what: str) -> str:
    """Return `value` if it may be an id: a non-empty string, at most 1,024 UTF-8 bytes, no lone surrogates.

    Raises:
        InvalidTargetError: It may not. The message says why and names `what`.
    """
    if not isinstance(value, str):
        raise InvalidTargetError(f"{what} must be a string, not {type(value).__name__}")
    if not value:
        raise InvalidTargetError(f"{what} must not be empty")
    # Four bytes are the most that a character takes, so a short string needs no second look at its length.
    if not value.isascii() or len(value) > MAX_ID_BYTES:
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise InvalidTargetError(f"{what} holds a lone surrogate: it has no UTF-8 form") from None
        if size > MAX_ID_BYTES:
            raise InvalidTargetError(f"{what} takes {size} UTF-8 bytes; at most {MAX_ID_BYTES} are allowed")
    # A subclass (an enum's member, a template's safe string) is an id by its text alone.
    return value if type(value) is str else str.__str__(value)


@frozen(cache_hash=True)
class Target:
    """Names the connections that should get an event: all that are associated with this kind and id.

    Args:
        kind: `connection`, `session`, `user`, `org`, `agent`, or a kind of the host's own:
            `[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*`, at most 32 characters. `everyone` is reserved; see `Target.everyone()`.
        id: Non-empty, at most 1,024 UTF-8 bytes, no lone surrogates. Any other character is fine.

    Raises:
        InvalidTargetError: Kind or id is not of that form.
    """

    kind: str
    id: str
    wire: bytes = field(init=False, eq=False, repr=False)
    """As it stands in an envelope: `{"User":"u1"}`, or `"Everyone"`. Made once: it costs as much as a frame's rest."""

    def __attrs_post_init__(self) -> None:
        kind = self.kind
        if kind == _EVERYONE:
            if self.id != "":
                raise InvalidTargetError("the kind 'everyone' is reserved: use Target.everyone(), it takes no id")
            wire = b'"Everyone"'
        else:
            if not isinstance(kind, str) or len(kind) > MAX_KIND_CHARACTERS or not _KIND.fullmatch(kind):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers without a type checker
                raise InvalidTargetError(
                    f"a target's kind must match [a-z][a-z0-9]*(_[a-z][a-z0-9]*)* and have at most "
                    f"{MAX_KIND_CHARACTERS} characters, for example 'user' or 'chat_room'; got "
                    f"{kind[:64] if isinstance(kind, str) else type(kind).__name__!r}"  # pyright: ignore[reportUnnecessaryIsInstance]
                )
            id_ = check_id(self.id, f"the id of a {kind!r} target")
            object.__setattr__(self, "id", id_)
            object.__setattr__(self, "kind", str.__str__(kind))
            pascal = "".join([word.capitalize() for word in kind.split("_")])
            wire = b'{"%b":%b}' % (pascal.encode(), _encode(id_))
        object.__setattr__(self, "wire", wire)

    @classmethod
    def connection(cls, id: str) -> Target:  # noqa: A002 -- the field's name
        """One client socket."""
        return cls("connection", id)

    @classmethod
    def session(cls, id: str) -> Target:  # noqa: A002 -- the field's name
        """All connections of one session, for instance the tabs of one browser."""
        return cls("session", id)

    @classmethod
    def user(cls, id: str) -> Target:  # noqa: A002 -- the field's name
        """All connections of one user."""
        return cls("user", id)

    @classmethod
    def org(cls, id: str) -> Target:  # noqa: A002 -- the field's name
        """All connections of one organisation."""
        return cls("org", id)

    @classmethod
    def agent(cls, id: str) -> Target:  # noqa: A002 -- the field's name
        """All connections that follow one agent."""
        return cls("agent", id)

    @classmethod
    def everyone(cls) -> Target:
        """Every connection of every pod."""
        return _EVERYONE_TARGET


_EVERYONE_TARGET: Final = Target(_EVERYONE, "")

"""Who should get an event: `Target`, and `Intersection` of several."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Self, TypeAlias, TypeVar, final

import msgspec
from attrs import Factory, field, frozen

from backplane_core.errors import InvalidTargetError

__all__ = ["Excluded", "Intersection", "Target", "Targets"]

MAX_ID_BYTES: Final = 1024
"""The longest id in UTF-8 bytes: room for any key people use, and small compared with an event."""

MAX_KIND_CHARACTERS: Final = 32

MAX_INTERSECTED: Final = 8
"""Most targets of one intersection: more than anybody needs, and cheap for a pod that has to check each."""
MAX_INTERSECTIONS: Final = 64
"""Most intersections of one publish: if each of their targets has 5,000 connections on a pod, 64 pairs take 50 ms."""

_MAX_CACHED: Final = 8_192
"""Targets that are found again instead of created: some 3 MiB of usual ids. The least recently used goes first."""
_MAX_CACHED_CHARACTERS: Final = 128
"""A target with a longer id is not cached, so that no flood of ids takes more than 14 MiB."""
_MAX_CACHED_KINDS: Final = 256
"""Kinds whose wire form is cached: more than any service has, even one that uses a part of an id as a kind."""

_EVERYONE: Final = "everyone"
# Each word starts with a letter, so that `job_status` <-> `JobStatus` is reversible (`job_1` and `job1` would not be).
_KIND: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z][a-z0-9]*)*", re.ASCII)
_encode: Final = msgspec.json.Encoder().encode


def check_id(value: object, what: str) -> str:
    """Return `value` if it is a valid id: a non-empty string, at most 1,024 UTF-8 bytes, no lone surrogates.

    Raises:
        InvalidTargetError: It is not a valid id. The message says why and names `what`.
    """
    if not isinstance(value, str):
        raise InvalidTargetError(f"{what} must be a string, not {type(value).__name__}")
    if not value:
        raise InvalidTargetError(f"{what} must not be empty")
    # A character takes at most four bytes, so a short string needs no second look at its length.
    if not value.isascii() or len(value) > MAX_ID_BYTES:
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise InvalidTargetError(f"{what} contains a lone surrogate, which has no UTF-8 form") from None
        if size > MAX_ID_BYTES:
            raise InvalidTargetError(f"{what} takes {size} UTF-8 bytes; at most {MAX_ID_BYTES} are allowed")
    # Of a subclass (a member of an enum, a safe string of a template) only the text is the id.
    return value if type(value) is str else str.__str__(value)


@frozen(init=False, eq=False)
class Target:
    """Names the connections that should get an event: all that are associated with this kind and id.

    Targets are values: equal kinds and ids make equal targets. Create one wherever you publish, as in
    `publish(Target.user(user_id), event)`: a recently used one is found again, so there is no need to keep any.

    Args:
        kind: `connection`, `session`, `user`, `org`, `agent`, or a kind of your own:
            `[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*`, at most 32 characters. `everyone` is reserved; see `Target.everyone()`.
        id: Non-empty, at most 1,024 UTF-8 bytes, no lone surrogates. Any other character is fine.

    Raises:
        InvalidTargetError: Kind or id does not have that form.
    """

    kind: str
    id: str
    wire: bytes = field(init=False, repr=False)
    """The target in an envelope: `{"User":"u1"}`, or `"Everyone"`. Different targets never have the same one."""

    def __new__(cls, kind: str, id: str) -> Self:  # noqa: A002 -- the field's name
        """Return the target of this kind and id: a new one, or one that was used recently."""
        # Only exact strings: a subclass may claim to equal another id.
        if cls is Target and type(id) is str and type(kind) is str and len(id) <= _MAX_CACHED_CHARACTERS:
            return _recent(kind, id)  # type: ignore[return-value]  # pyright: ignore[reportReturnType] -- `cls` is Target
        return _make(cls, kind, id)

    def __eq__(self, other: object) -> bool:
        return self.wire == other.wire if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.wire)

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.kind, self.id)

    def __and__(self, other: Target | Intersection) -> Target | Intersection:
        """Return the intersection: it reaches the connections that have both targets.

        Raises:
            InvalidTargetError: There would be over 8 targets.
        """
        return _intersect(self, other)

    @classmethod
    def connection(cls, id: str) -> Target:  # noqa: A002 -- the field's name
        """Return the target of one client socket.

        Args:
            id: The connection's id: not empty, at most 1,024 UTF-8 bytes, no lone surrogates.

        Raises:
            InvalidTargetError: The id does not have that form.
        """
        if cls is Target and type(id) is str and len(id) <= _MAX_CACHED_CHARACTERS:
            return _recent("connection", id)
        return cls("connection", id)

    @classmethod
    def session(cls, id: str) -> Target:  # noqa: A002 -- the field's name
        """Return the target of all connections of one session, for instance the tabs of one browser.

        Args:
            id: The session's id: not empty, at most 1,024 UTF-8 bytes, no lone surrogates.

        Raises:
            InvalidTargetError: The id does not have that form.
        """
        if cls is Target and type(id) is str and len(id) <= _MAX_CACHED_CHARACTERS:
            return _recent("session", id)
        return cls("session", id)

    @classmethod
    def user(cls, id: str) -> Target:  # noqa: A002 -- the field's name
        """Return the target of all connections of one user.

        Args:
            id: The user's id: not empty, at most 1,024 UTF-8 bytes, no lone surrogates.

        Raises:
            InvalidTargetError: The id does not have that form.
        """
        if cls is Target and type(id) is str and len(id) <= _MAX_CACHED_CHARACTERS:
            return _recent("user", id)
        return cls("user", id)

    @classmethod
    def org(cls, id: str) -> Target:  # noqa: A002 -- the field's name
        """Return the target of all connections of one organization.

        Args:
            id: The organization's id: not empty, at most 1,024 UTF-8 bytes, no lone surrogates.

        Raises:
            InvalidTargetError: The id does not have that form.
        """
        if cls is Target and type(id) is str and len(id) <= _MAX_CACHED_CHARACTERS:
            return _recent("org", id)
        return cls("org", id)

    @classmethod
    def agent(cls, id: str) -> Target:  # noqa: A002 -- the field's name
        """Return the target of all connections that follow one agent.

        Args:
            id: The agent's id: not empty, at most 1,024 UTF-8 bytes, no lone surrogates.

        Raises:
            InvalidTargetError: The id does not have that form.
        """
        if cls is Target and type(id) is str and len(id) <= _MAX_CACHED_CHARACTERS:
            return _recent("agent", id)
        return cls("agent", id)

    @classmethod
    def everyone(cls) -> Target:
        """Return the target of every connection on every pod."""
        return _EVERYONE_TARGET

    @classmethod
    def parse(cls, text: str) -> Target:
        """Parse a target that is written as text: a kind and an id, such as `user:u1`, or `everyone`.

        Args:
            text: The text, as in `Target.text`. The id may contain colons.

        Raises:
            InvalidTargetError: It does not have that form.
        """
        if text == _EVERYONE:
            return _EVERYONE_TARGET
        kind, _, id_ = text.partition(":")
        return Target(kind, id_)

    @property
    def text(self) -> str:
        """The target as text, for people, flags and clients: `user:u1`, or `everyone`; `Target.parse` parses it."""
        return f"{self.kind}:{self.id}" if self.id else self.kind


def _check_intersected(targets: Iterable[Target]) -> tuple[Target, ...]:
    checked = tuple(targets)
    if not all(isinstance(target, Target) for target in checked):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers without a type checker
        raise InvalidTargetError("an intersection consists of targets: Target.user('u1') & Target('app', 'web')")
    if not 1 < len(checked) <= MAX_INTERSECTED or len(set(checked)) < len(checked):
        raise InvalidTargetError(f"an intersection has 2 to {MAX_INTERSECTED} different targets, not {len(checked)}")
    return checked


def _wire_of(intersection: Intersection) -> bytes:
    return b"[%b]" % b",".join([target.wire for target in intersection.targets])


@final
@frozen
class Intersection:
    """The connections that have all of several targets: `Target.user("u1") & Target("app", "web")`.

    It is made with `&` from 2 to 8 targets, and is accepted wherever you publish to a target or query the fleet for
    one. Its first target decides on the channel that an event travels on, and so on the events with which it keeps its
    order: put the target first that the fewest connections have. `a & b` and `b & a` reach the same connections, but
    are not equal.

    Args:
        targets: The targets, each once.

    Raises:
        InvalidTargetError: There are too few or too many, or one is repeated.
    """

    targets: tuple[Target, ...] = field(converter=_check_intersected)
    wire: bytes = field(init=False, repr=False, eq=False, default=Factory(_wire_of, takes_self=True))
    """The targets in a frame: `[{"User":"u1"},{"App":"web"}]`."""

    def __and__(self, other: Target | Intersection) -> Target | Intersection:
        """Return the intersection with more targets: it reaches the connections that have these too.

        Raises:
            InvalidTargetError: There would be over 8 targets.
        """
        return _intersect(self, other)


Excluded: TypeAlias = Iterable[str | Target | Intersection]
"""Who must not get an event: ids of connections, and targets whose connections are left out."""

Targets: TypeAlias = Target | Intersection | Iterable[Target | Intersection]
"""Whom an event is for: a target, an intersection, or several of these (their union)."""


def targets_in(one: Target | Intersection) -> tuple[Target, ...]:
    """Return the targets that a connection must have, all of them."""
    return one.targets if isinstance(one, Intersection) else (one,)


def _intersect(one: Target | Intersection, other: Target | Intersection) -> Target | Intersection:
    if not isinstance(other, (Target, Intersection)):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers without a type checker
        return NotImplemented
    both = dict.fromkeys((*targets_in(one), *targets_in(other)))
    needed = [target for target in both if target.kind != _EVERYONE]  # which every connection has
    if len(needed) > 1:
        return Intersection(needed)
    return needed[0] if needed else one


_T = TypeVar("_T", bound=Target)

_new: Final = object.__new__
# A frozen object rejects `setattr`; its slots take a value in half the time of `object.__setattr__`.
_set_kind, _set_id, _set_wire = (Target.__dict__[name].__set__ for name in ("kind", "id", "wire"))


@lru_cache(maxsize=_MAX_CACHED_KINDS)
def _wire_start(kind: str) -> bytes:
    """Return the start of the wire form of targets of this kind, with the kind in PascalCase: `{"User":`.

    Empty for everyone, which takes no id.

    Raises:
        InvalidTargetError: It is not a valid kind.
    """
    if kind == _EVERYONE:
        return b""
    if len(kind) > MAX_KIND_CHARACTERS or not _KIND.fullmatch(kind):
        raise _wrong_kind(repr(kind[:64]))
    pascal = "".join([word.capitalize() for word in kind.split("_")])
    return b'{"%b":' % pascal.encode()


def _wrong_kind(got: str) -> InvalidTargetError:
    return InvalidTargetError(
        f"a target's kind must match [a-z][a-z0-9]*(_[a-z][a-z0-9]*)* and have at most "
        f"{MAX_KIND_CHARACTERS} characters, for example 'user' or 'chat_room'; got {got}"
    )


def _make(cls: type[_T], kind: str, id_: str) -> _T:
    """Return a new target from strings of any class, and check arguments from callers without a type checker.

    Raises:
        InvalidTargetError: See `Target`.
    """
    if not isinstance(kind, str):  # pyright: ignore[reportUnnecessaryIsInstance] -- see above
        raise _wrong_kind(repr(type(kind).__name__))
    kind = str.__str__(kind)
    if start := _wire_start(kind):
        id_ = check_id(id_, f"the id of a {kind!r} target")
        wire = b"%b%b}" % (start, _encode(id_))
    elif id_ != "":
        raise InvalidTargetError("the kind 'everyone' is reserved: use Target.everyone(), it takes no id")
    else:
        id_, wire = "", b'"Everyone"'
    target = _new(cls)
    _set_kind(target, kind)
    _set_id(target, id_)
    _set_wire(target, wire)
    return target


@lru_cache(maxsize=_MAX_CACHED)
def _recent(kind: str, id_: str) -> Target:
    """Return the target of two exact strings: the same object as long as it stays in the cache."""
    # Nearly every id is plain ASCII and short enough; for those this is all that `_make` would do.
    if id_ and id_.isascii() and (start := _wire_start(kind)):
        target = _new(Target)
        _set_kind(target, kind)
        _set_id(target, id_)
        _set_wire(target, b"%b%b}" % (start, _encode(id_)))
        return target
    return _make(Target, kind, id_)


_EVERYONE_TARGET: Final = Target(_EVERYONE, "")

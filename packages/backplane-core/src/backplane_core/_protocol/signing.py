"""Signed frames: the keys of a fleet, and how a plain frame is sealed and opened.

Sealing is the last step before the link and opening the first one behind it: all between sees plain frames. The format
is written down in docs/reference/wire-format.md, "Signed frames".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from backplane_core._protocol.frame import SIGNED_START
from backplane_core.errors import EnvelopeError
from backplane_core.transport import Frame

__all__ = [
    "SignatureError",
    "Signer",
    "SigningKeys",
    "max_plain_bytes",
    "max_signed_bytes",
    "sealed_prefix",
    "sealed_suffix",
]

SHORT_KEY_BYTES: Final = 16
"""Whoever hears the bus can try keys at leisure: shorter ones may be found."""

_KID_DIGITS: Final = 16
_SIG_DIGITS: Final = 64

# Ten digits at any time from 2001 to 2286, so that a frame's size is known before it is sealed. A machine whose clock
# stands elsewhere is refused by the others anyhow.
_FIRST_S: Final = 10**9
_LAST_S: Final = 10**10 - 1

_escape: Final = msgspec.json.Encoder().encode


class SignatureError(EnvelopeError):
    """A frame is not signed, or not as this fleet signs."""


class SigningKeys:
    """The keys of one fleet: the first signs, all verify. Shows none of them, whatever prints it.

    Args:
        keys: Text (as UTF-8) or bytes, none empty.

    Raises:
        ValueError: There are none, or one is empty or of another type.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: object) -> None:
        if not isinstance(keys, Sequence) or isinstance(keys, (str, bytes, bytearray)):
            raise ValueError  # noqa: TRY004 -- whoever asked says what is allowed, and never what was given
        found: list[bytes] = []
        for key in keys:  # pyright: ignore[reportUnknownVariableType] -- anything, until it is looked at
            plain = key.encode() if isinstance(key, str) else bytes(key) if isinstance(key, bytes) else b""
            if not plain:
                raise ValueError
            found.append(plain)
        if not found:
            raise ValueError
        self._keys = tuple(found)

    def __repr__(self) -> str:
        return "SigningKeys(***)"

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The keys, for the signer alone."""
        return self._keys

    @property
    def short(self) -> bool:
        """Whether one of them is too short to be safe."""
        return any(len(key) < SHORT_KEY_BYTES for key in self._keys)


class _Sealed(msgspec.Struct, gc=False):
    """A signed frame."""

    sig: str
    kid: str
    env: str


class _Stamp(msgspec.Struct, gc=False):
    """What is checked of a signed envelope here; the reader checks it whole."""

    seq: int | None = None
    at: Annotated[int, Meta(ge=0, le=_LAST_S)] | None = None


_decode_sealed: Final = msgspec.json.Decoder(_Sealed).decode
_decode_stamp: Final = msgspec.json.Decoder(_Stamp).decode

_AT: Final = b'{"at":'
_AT_BYTES: Final = len(b'{"at":1000000000,')


def _join(sig: bytes, kid: bytes, env: bytes) -> bytes:
    return b'%b%b","kid":"%b","env":%b}' % (SIGNED_START, sig, kid, _escape(env.decode()))


_BARE: Final = _join(b"0" * _SIG_DIGITS, b"0" * _KID_DIGITS, b'{"at":1000000000,}')
SEAL_BYTES: Final = len(_BARE) - len(b"{}")
"""What a seal adds to a frame without anything to escape."""
_ENV_STARTS: Final = _BARE.index(b'"{') + 1

_MOST_GROWTH: Final = 2  # a frame holds no control characters: escaping puts a backslash before some of the others


def max_signed_bytes(plain_bytes: int) -> int:
    """Return what a frame of so many bytes is at most, sealed."""
    return SEAL_BYTES + _MOST_GROWTH * plain_bytes


def max_plain_bytes(sealed_bytes: int) -> int:
    """Return the size up to which every frame surely fits into so many bytes, sealed."""
    return (sealed_bytes - SEAL_BYTES) // _MOST_GROWTH


def sealed_prefix(prefix: bytes) -> tuple[bytes, int]:
    """Return what a plain frame that starts so looks like, sealed, from some place on; and that place."""
    return _escape(prefix[1:].decode())[1:-1], _ENV_STARTS + len(_escape('{"at":1000000000,')) - 2


def sealed_suffix(suffix: bytes) -> bytes:
    """Return what a plain frame that ends so ends with, sealed."""
    return _escape(suffix.decode())[1:] + b"}"


class Signer:
    """Seals and opens frames.

    Args:
        keys: Of the fleet.
        window_s: The most that a frame's time may differ from ours.
        wall: The wall clock, Unix time in seconds.
    """

    def __init__(self, keys: SigningKeys, window_s: float, wall: Callable[[], float]) -> None:
        # The first half of each computation depends on the key alone: copying it is cheaper.
        self._keyed = {_key_id(key): hmac.new(key, digestmod=hashlib.sha256) for key in reversed(keys.secrets)}
        self._kid = _key_id(keys.secrets[0])
        self._window_s = window_s
        self._wall = wall

    def __repr__(self) -> str:
        return "Signer(***)"

    def seal(self, channel: str, frame: bytes) -> bytes:
        """Return the signed frame that stands for a plain one on this channel, from now on for `window_s`."""
        at = min(max(int(self._wall()), _FIRST_S), _LAST_S)
        env = b"%b%d,%b" % (_AT, at, frame[1:])
        return _join(self._sign(self._kid, channel, env), self._kid.encode(), env)

    def seal_all(self, frames: Iterable[Frame]) -> list[Frame]:
        """Return a batch, sealed."""
        return [(frame[0], self.seal(frame[0], frame[1])) for frame in frames]

    @staticmethod
    def size(frame: bytes) -> int:
        """Return exactly what `seal` makes of a frame, in bytes."""
        return SEAL_BYTES - 2 + len(_escape(frame.decode()))

    def open(self, channel: str, payload: bytes) -> bytes:
        """Return the plain frame that was sealed for this channel.

        Raises:
            SignatureError: It is not signed, not with a key of ours, not for this channel, or too long ago.
            EnvelopeError: It is signed and yet no envelope that may be.
        """
        try:
            sealed = _decode_sealed(payload)
            env, sig = sealed.env.encode(), sealed.sig.encode()
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            problem = "it is not signed, and this pod has signing_keys"
        else:
            if sealed.kid not in self._keyed:
                problem = "it is signed with a key that this pod does not have"
            elif not hmac.compare_digest(self._sign(sealed.kid, channel, env), sig):
                problem = "its signature is wrong: forged, or made for another channel"
            else:
                self._check_stamp(env)
                plain = env.startswith(_AT) and env[_AT_BYTES - 1 : _AT_BYTES] == b","
                return b"{" + env[_AT_BYTES:] if plain else env
        # Out here, where no `__context__` carries the frame.
        raise SignatureError(f"not taken: {problem}")

    def _sign(self, kid: str, channel: str, env: bytes) -> bytes:
        signing = self._keyed[kid].copy()
        signing.update(b"%b\0%b" % (channel.encode(), env))
        return signing.hexdigest().encode()

    def _check_stamp(self, env: bytes) -> None:
        try:
            stamp = _decode_stamp(env)
        except (msgspec.MsgspecError, ValueError, RecursionError):  # ValueError: more digits than Python converts
            stamp = None
        if stamp is None or stamp.seq is None:
            # Without a number no copy of it could be told.
            raise EnvelopeError("not an envelope: what is signed is one with seq, and at, if there, is whole seconds")
        if stamp.at is not None and abs(self._wall() - stamp.at) > self._window_s:
            raise SignatureError(
                f"not taken: it was signed more than {self._window_s:g} s ago (or ahead): sent again by somebody, or "
                "the clocks of two pods differ"
            )


def _key_id(key: bytes) -> str:
    """Return a name for a key that does not lead back to it."""
    return hmac.digest(key, b"backplane key id", "sha256").hex()[:_KID_DIGITS]

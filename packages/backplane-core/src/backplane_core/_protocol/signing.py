"""Signed frames: the keys of a fleet, and the line of plain ASCII that proves where a frame comes from.

Signing is the last step before the link and verifying the first one behind it: everything in between sees plain frames.
A signed frame is a head, `backplane-signed-1 KID AT SIG` and a line feed, and then the plain frame, unchanged. The head
is always `SIGNED_HEAD_BYTES` long, so a frame's size on the bus is known without signing it, and an echo or a beat is
recognized by `startswith` at that offset and `endswith`. The format is written down in docs/reference/wire-format.md,
"Signed frames".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from backplane_core._protocol.frame import SIGNED_START
from backplane_core.errors import EnvelopeError
from backplane_core.transport import Frame

__all__ = ["SIGNED_HEAD_BYTES", "ForgedError", "SignatureError", "Signer", "SigningKeys", "StaleError"]

SHORT_KEY_BYTES: Final = 16
"""Anyone who hears the bus can try keys at leisure, and may find shorter ones."""

SIGNED_HEAD_BYTES: Final = 112
"""Length of the head in front of the plain frame: 18 + 1 + 16 + 1 + 10 + 1 + 64 + 1, see `_HEAD`."""

_VERSION: Final = SIGNED_START + b"1 "
_KID: Final = slice(len(_VERSION), len(_VERSION) + 16)
_AT: Final = slice(_KID.stop + 1, _KID.stop + 11)
_HEAD: Final = re.compile(_VERSION + rb"[0-9a-f]{16} [1-9][0-9]{9} [0-9a-f]{64}\n")
"""Version, KID, AT and SIG. `Signer.verify` needs it only to say what is wrong."""

# Ten digits at any time from 2001 to 2286, so that every head has the same size. A machine whose clock is outside of
# that range is rejected by the others anyway.
_FIRST_S: Final = 10**9
_LAST_S: Final = 10**10 - 1
_FIRST: Final = b"%d" % _FIRST_S

_BLOCK_BYTES: Final = 64  # of SHA-256


class SignatureError(EnvelopeError):
    """A frame is not signed, or not as this fleet signs."""


class StaleError(SignatureError):
    """A pod of this fleet signed the frame, but too long ago or too far ahead, by this pod's clock."""


class ForgedError(SignatureError):
    """No pod wrote the frame as it is, whatever its keys and its version: it is forged, altered or garbled."""


class SigningKeys:
    """The keys of one fleet: the first signs, all verify. No repr or str shows them.

    Args:
        keys: Text (as UTF-8) or bytes, none empty.

    Raises:
        ValueError: There are none, or one is empty or of another type.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: object) -> None:
        if not isinstance(keys, Sequence) or isinstance(keys, (str, bytes, bytearray)):
            raise ValueError  # noqa: TRY004 -- the caller says what is allowed, and never shows what was given
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
        """The keys; only for the signer."""
        return self._keys

    @property
    def short(self) -> bool:
        """Whether one of them is too short to be safe."""
        return any(len(key) < SHORT_KEY_BYTES for key in self._keys)


class _Hmac:
    """HMAC-SHA256 with one key, as RFC 2104 defines it: the hash of the key and of the hash of the key and the text.

    Both hashes are fed their key before the first frame, and copied for each frame. `hmac.HMAC.copy` does the same but
    is written in Python: 1.5 instead of 1.0 µs for a frame of 300 bytes.

    Args:
        key: The key, of any length.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = (key if len(key) <= _BLOCK_BYTES else hashlib.sha256(key).digest()).ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes([byte ^ 0x36 for byte in block]))
        self._outer = hashlib.sha256(bytes([byte ^ 0x5C for byte in block]))

    def hexdigest(self, text: bytes) -> str:
        """Return the 64 hex digits for this text."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text)
        outer.update(inner.digest())
        return outer.hexdigest()


class WallClock(Protocol):
    """The part of a pod's system that a signer needs."""

    def wall(self) -> float:
        """Return Unix time in seconds."""
        ...


class Signer:
    """Signs frames and verifies them.

    It signs the frame itself, with the size and name of the channel in the place of the signature:

        backplane-signed-1 KID AT SIZE CHANNEL
        {"origin":...

    So a signature is valid for one version, key, second, channel and frame. No two combinations give the same bytes,
    whatever a channel or a frame contains: KID and AT have a fixed width, SIZE ends with the first space and says where
    CHANNEL ends, and the frame is everything after the line feed.

    Args:
        keys: The keys of the fleet.
        window_s: How far the time of a frame may be from this pod's clock, in seconds.
        clock: Stamps our frames and judges those of others.
    """

    def __init__(self, keys: SigningKeys, window_s: float, clock: WallClock) -> None:
        self._keyed = {_key_id(key): _Hmac(key) for key in reversed(keys.secrets)}
        self._kid = _key_id(keys.secrets[0])
        self.window_s = window_s
        self._clock = clock
        self.late_s = 0.0
        """How much older a frame may be, in seconds: in a log, what was sent while this pod was cut off comes late."""

    def __repr__(self) -> str:
        return "Signer(***)"

    def sign(self, channel: str, frame: bytes) -> bytes:
        """Return the frame signed for this channel, valid from now for `window_s`."""
        return self._head(self._kid, self._now(), channel, frame) + frame

    def sign_all(self, frames: Iterable[Frame]) -> list[Frame]:
        """Return a batch of frames, signed."""
        kid, now = self._kid, self._now()
        return [(frame[0], self._head(kid, now, frame[0], frame[1]) + frame[1]) for frame in frames]

    def verify(self, channel: str, payload: bytes, *, is_old: bool = False) -> bytes:
        """Return the plain frame that was signed for this channel. It may still not be an envelope.

        Args:
            channel: Where it came from.
            payload: As it came.
            is_old: Whether it is read from a part of a log that may be of any age.

        Raises:
            StaleError: It was signed too long ago, or too far ahead.
            ForgedError: It is not as any pod would have signed it, or not for this channel.
            SignatureError: It is not signed, not with a key of ours, or in another way.
        """
        kid, at = payload[_KID], payload[_AT]
        if kid in self._keyed and at.isdigit() and at >= _FIRST:
            frame = payload[SIGNED_HEAD_BYTES:]
            # The whole head at once, and in constant time: this checks version, spaces and line feed too.
            if hmac.compare_digest(self._head(kid, at, channel, frame), payload[:SIGNED_HEAD_BYTES]):
                if is_old or -self.window_s <= self._clock.wall() - int(at) <= self.window_s + self.late_s:
                    return frame
                raise StaleError(
                    f"not taken: it was signed more than {self.window_s:g} s ago (or ahead): sent again by somebody, "
                    "or the clocks of two pods differ: set them by NTP"
                )
        raise self._problem(payload)

    def _head(self, kid: bytes, at: bytes, channel: str, frame: bytes) -> bytes:
        stamp, name = b"%b%b %b " % (_VERSION, kid, at), channel.encode()
        sig = self._keyed[kid].hexdigest(b"%b%d %b\n%b" % (stamp, len(name), name, frame))
        return b"%b%b\n" % (stamp, sig.encode())

    def _now(self) -> bytes:
        return b"%d" % min(max(int(self._clock.wall()), _FIRST_S), _LAST_S)

    def _problem(self, payload: bytes) -> SignatureError:
        """Return why a frame was rejected, without any of its bytes."""
        if not payload.startswith(SIGNED_START):
            return SignatureError(
                "not taken: it is not signed, and this pod has signing_keys: give all pods the same ones"
            )
        if not payload.startswith(_VERSION) and not _VERSION.startswith(payload):
            return SignatureError(
                "not taken: it is signed in a way that this pod does not know, which knows backplane-signed-1: "
                "update it"
            )
        if not _HEAD.match(payload):
            return ForgedError(
                "not taken: its head is not backplane-signed-1, KID, AT and SIG, with one space between and a line "
                "feed behind"
            )
        if payload[_KID] not in self._keyed:
            return SignatureError(
                "not taken: it is signed with a key that this pod does not have: add that to its signing_keys"
            )
        return ForgedError("not taken: its signature is wrong: forged, altered, or made for another channel")


def _key_id(key: bytes) -> bytes:
    """Return a name for a key that does not reveal it: 16 hex digits."""
    return hmac.digest(key, b"backplane key id", "sha256").hex()[:16].encode()

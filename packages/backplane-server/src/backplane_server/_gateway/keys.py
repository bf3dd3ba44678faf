"""The keys that tokens are signed with, reloaded when their file changes: `Keys`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import jwt
from attrs import define, field, frozen
from backplane_core import ConfigurationError

__all__ = ["FileKeys", "Key", "Keys", "SecretKey"]

LEAST_SECRET: Final = 32
"""Bytes of a secret for HS256, as RFC 7518 requires: a shorter one can be guessed from a token."""


@frozen(repr=False)
class Key:
    """One key, and the algorithms that it is valid for.

    Args:
        key: The key in PyJWT's form.
        algorithms: The algorithms of this kind of key: a token never chooses one.
        key_id: Its `kid`; None: it has none.
    """

    key: Any
    algorithms: Sequence[str]
    key_id: str | None = None


class Keys(Protocol):
    """Where a token's key comes from."""

    def find(self, key_id: str | None) -> Sequence[Key]:
        """Return the keys that a token with this `kid` may be signed with; None: the token names no key."""
        ...


class SecretKey:
    """A shared secret, for HS256.

    Args:
        secret: At least 32 bytes.

    Raises:
        ConfigurationError: It is shorter.
    """

    def __init__(self, secret: str) -> None:
        if len(secret.encode()) < LEAST_SECRET:
            raise ConfigurationError(
                f"the JWT secret has fewer than {LEAST_SECRET} bytes: use at least that many random bytes"
            )
        self._keys = (Key(secret, ("HS256",)),)

    def find(self, key_id: str | None) -> Sequence[Key]:  # noqa: ARG002 -- there is one
        """Return the secret."""
        return self._keys


@define
class FileKeys:
    """Public keys in a file: one as PEM, or a JWKS. A changed file is reloaded; if it is broken, the old keys stay.

    Args:
        path: The file.

    Raises:
        ConfigurationError: The file can't be read, or has no usable key.
    """

    _path: Path
    _keys: Sequence[Key] = field(init=False)
    _read_at: tuple[int, int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._read_at = self._stamp()
        self._keys = _read(self._path)

    def find(self, key_id: str | None) -> Sequence[Key]:
        """Return the keys that a token with this `kid` may be signed with."""
        try:
            stamp = self._stamp()
            if stamp != self._read_at:
                self._read_at = stamp  # a broken file is read once
                self._keys = _read(self._path)
        except ConfigurationError:
            pass  # perhaps it is just being replaced: the old keys stay valid
        return [key for key in self._keys if key_id is None or key.key_id in {None, key_id}]

    def _stamp(self) -> tuple[int, int]:
        try:
            found = os.stat(self._path)  # noqa: PTH116 -- once for each client, and a Path's costs more
        except OSError as error:
            raise ConfigurationError(f"{self._path} can't be read: {error.strerror}") from None
        return found.st_mtime_ns, found.st_ino


def _read(path: Path) -> Sequence[Key]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} can't be read: {getattr(error, 'strerror', 'it is not text')}") from None
    keys = _read_pem(text) if "-----BEGIN" in text else _read_jwks(text)
    if not keys:
        raise ConfigurationError(
            f"{path} has no key for RS256 or ES256: it needs a public key as PEM, or a JWKS, "
            "and `pip install 'backplane-server[crypto]'`"
        )
    return keys


def _read_pem(text: str) -> Sequence[Key]:
    for name in ("RS256", "ES256"):
        try:
            return [Key(jwt.get_algorithm_by_name(name).prepare_key(text), (name,))]
        except (jwt.PyJWTError, ValueError, TypeError, NotImplementedError):
            continue
    return ()


def _read_jwks(text: str) -> Sequence[Key]:
    try:
        table: Any = json.loads(text)
        listed: Sequence[Mapping[str, Any]] = table["keys"]
    except (ValueError, KeyError, TypeError):
        return ()
    return [key for entry in listed if (key := _read_jwk(entry)) is not None]


def _read_jwk(entry: Mapping[str, Any]) -> Key | None:
    """Return the key of one entry; None: it is for another purpose, or broken, which must not affect the others."""
    name = {"RSA": "RS256", "EC": "ES256"}.get(str(entry.get("kty")))
    if name is None or entry.get("use", "sig") != "sig" or entry.get("alg", name) != name:
        return None
    try:
        return Key(jwt.PyJWK({**entry, "alg": name}).key, (name,), entry.get("kid"))
    except (jwt.PyJWTError, ValueError, TypeError, NotImplementedError):
        return None
